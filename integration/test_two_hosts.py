"""Two hosts of one tailnet: through the relay, directly, and back again.

::

    h1 ── bridge: control, DERP, STUN ── h2        UDP from h1 to h2: dropped or not
"""

import re

import pytest
from integration.lab.host import PORT, Host
from integration.lab.lab import Lab
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

DIRECT_TIMEOUT = 20.0  # seconds for a direct path
FALLBACK_TIMEOUT = 25.0  # seconds until a dead path is given up


def both(lab: Lab) -> tuple[Host, Host]:
    """h1 and h2."""
    return lab.hosts["h1"], lab.hosts["h2"]


def assert_all_pings_pass(lab: Lab) -> None:
    """From the operating system, both ways, both families."""
    one, two = both(lab)
    for here, there in ((one, two), (two, one)):
        for address in (there.ipv4, there.ipv6):
            assert here.ping_os(address, count=3).lost == 0, f"{here.name} to {address}"


def tnet_ping(here: Host, there: Host) -> str:
    """How ``tnet ping`` says a peer was reached, as in ``via DERP(lab900)``."""
    said = here.tnet("ping", "-c", "1", "--until-direct=false", str(there.ipv4)).stdout
    found = re.fullmatch(r"pong from (\S+) \((\S+?)(?:, \d+)?\) via (\S+) in \S+\n", said)
    assert found is not None, said
    assert found.group(1) == there.name
    assert found.group(2) == str(there.ipv4)
    return found.group(3)


def go_direct(lab: Lab) -> None:
    """Allow UDP and wait until both use it."""
    one, two = both(lab)
    lab.network.allow_udp(allowed=True)
    for here, there in ((one, two), (two, one)):
        here.ping_os(there.ipv4, count=1)
        until("a direct path", lambda h=here, t=there: h.path_to(t.name), DIRECT_TIMEOUT)  # type: ignore[misc]


def test_through_the_relay_only(relayed: Lab) -> None:
    """No UDP between the hosts: everything arrives, and nobody claims a direct path."""
    relayed.network.allow_udp(allowed=False)
    assert_all_pings_pass(relayed)
    one, two = both(relayed)
    assert tnet_ping(one, two) == "DERP(lab900)"
    assert one.path_to("h2") == ""
    assert re.search(r"h2\s.*active; relay \"lab900\", tx \d+ rx \d+", one.tnet("status").stdout)


def test_directly_once_udp_is_allowed(relayed: Lab) -> None:
    """The path changes under the running daemons, and is seen in status and ping."""
    one, two = both(relayed)
    before = (one.running.pid, two.running.pid)
    go_direct(relayed)
    address = f"{two.underlay}:{PORT}"
    assert tnet_ping(one, two) in {address, f"[fd99::12]:{PORT}"}
    assert re.search(r"h2\s.*active; direct \S+:41641, tx \d+ rx \d+", one.tnet("status").stdout)
    assert_all_pings_pass(relayed)
    assert (one.running.pid, two.running.pid) == before
    assert one.running.returncode is None


def test_back_to_the_relay_when_udp_is_cut(relayed: Lab) -> None:
    """A path that died is given up, and what is sent afterwards arrives through the relay."""
    one, two = both(relayed)
    go_direct(relayed)
    relayed.network.allow_udp(allowed=False)
    for here, there in ((one, two), (two, one)):

        def relayed_again(here: Host = here, there: Host = there) -> bool:
            return here.ping_os(there.ipv4, count=1, wait=1).lost == 0

        until("the relay to be used", relayed_again, FALLBACK_TIMEOUT)
        until("status to say so", lambda h=here, t=there: not h.path_to(t.name), FALLBACK_TIMEOUT)  # type: ignore[misc]
    assert_all_pings_pass(relayed)
    assert tnet_ping(one, two) == "DERP(lab900)"
