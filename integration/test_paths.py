"""How a peer is reached: said by ``tnet path``, ruled by ``tnet set``.

::

    h1 ── bridge: control, DERP, STUN ── h2        UDP between hosts allowed
"""

import json
from typing import Any

import pytest
from integration.conftest import MakeLab
from integration.lab.host import PORT, Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

TIMEOUT = 20.0  # seconds for a path to change
EXTRA = "198.51.100.7:4000"
OTHER = "203.0.113.9"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Joined."""
    lab = make_lab(flat("h1", "h2"))
    lab.join()
    lab.wait_complete()
    return lab


def both(lab: Lab) -> tuple[Host, Host]:
    """h1 and h2."""
    return lab.hosts["h1"], lab.hosts["h2"]


def path(here: Host, there: Host) -> dict[str, Any]:
    """What ``tnet path`` says."""
    said: dict[str, Any] = json.loads(here.tnet("path", "--json", there.name).stdout)
    return said


def wait_for(kind: str, here: Host, there: Host) -> dict[str, Any]:
    """Until the path is of this kind, while something is sent."""

    def found() -> dict[str, Any] | None:
        here.ping_os(there.ipv4, count=1, wait=1)
        said = path(here, there)
        return said if said["Kind"] == kind else None

    return until(f"the path to be {kind}", found, TIMEOUT)


def told(here: Host, there: Host) -> set[str]:
    """Addresses of ``there`` that control tells ``here``; a CallMeMaybe may keep more in mind."""
    peers = json.loads(here.tnet("debug", "netmap").stdout)["Peers"]
    (peer,) = (peer for peer in peers if peer["Name"].startswith(f"{there.name}."))
    return set(peer["Endpoints"])


def test_the_direct_path_and_its_losers_are_explained(lab: Lab) -> None:
    """The one in use first; people read the same."""
    one, two = both(lab)
    said = wait_for("direct", one, two)
    used = said["Candidates"][0]
    assert used["Used"]
    assert used["Verdict"].startswith("won: ")
    assert used["Pongs"]
    assert said["Addr"] == used["Addr"]
    assert {c["Addr"] for c in said["Candidates"]} >= {f"{two.underlay}:{PORT}"}
    assert said["History"][0]["Path"] == "relay"
    text = one.tnet("path", "h2").stdout
    assert text.startswith("h2: direct\n")
    assert f"  * {said['Addr']} (" in text


def test_relay_only_applies_at_once_and_survives_a_restart(lab: Lab) -> None:
    """Both directions leave the direct path; ``auto`` brings it back."""
    one, two = both(lab)
    wait_for("direct", one, two)
    one.tnet("set", "--path-policy=h2=relay-only")
    assert path(one, two)["Kind"] == "relay"
    until("h2 to give up", lambda: path(two, one)["Kind"] == "relay", TIMEOUT)
    assert one.ping_os(two.ipv4).lost == 0
    assert two.ping_os(one.ipv4).lost == 0
    one.stop()
    one.start()
    one.tnet("wait")
    until("the tunnel", lambda: one.ping_os(two.ipv4, count=1, wait=1).lost == 0, TIMEOUT)
    said = path(one, two)
    assert (said["Kind"], said["Policy"]) == ("relay", "relay-only")
    one.tnet("set", "--path-policy=h2=auto")
    wait_for("direct", one, two)


def test_direct_only_sends_nothing_by_relay(lab: Lab) -> None:
    """Without UDP nothing arrives; with it everything does."""
    one, two = both(lab)
    one.tnet("set", "--path-policy=h2=direct-only")
    wait_for("direct", one, two)
    lab.network.allow_udp(allowed=False)
    wait_for("none", one, two)
    assert one.ping_os(two.ipv4, count=2, wait=1).received == 0
    lab.network.allow_udp(allowed=True)
    wait_for("direct", one, two)
    one.tnet("set", "--path-policy=")
    assert path(one, two)["Policy"] == "auto"


def test_what_is_told_of_our_addresses_follows_the_settings(lab: Lab) -> None:
    """Interfaces left out or listed, an address put in; the peer sees it without a restart."""
    one, two = both(lab)
    other = f"{OTHER}:{PORT}"
    for command in ("link add other type veth peer name end", "link set end up"):
        one.exec("ip", *command.split())
    one.exec("ip", "address", "add", f"{OTHER}/24", "dev", "other")
    one.exec("ip", "link", "set", "other", "up")
    one.tnet("set", f"--static-endpoints={EXTRA}")
    until("both told", lambda: {EXTRA, other} <= told(two, one), TIMEOUT)
    for left_out, listed in (("-oth*", "oth*"), ("eth*", "oth*,eth*")):
        one.tnet("set", f"--endpoint-interfaces={left_out}")
        until("one told", lambda: {EXTRA, other} & told(two, one) == {EXTRA}, TIMEOUT)
        one.tnet("set", f"--endpoint-interfaces={listed}")
        until("both told", lambda: {EXTRA, other} <= told(two, one), TIMEOUT)
    one.tnet("set", "--endpoint-interfaces=", "--static-endpoints=")
    one.exec("ip", "link", "delete", "other")
    refused = one.tnet("set", "--static-endpoints=nonsense", check=False)
    assert refused.returncode == 1
    assert "it has the form IP:PORT" in refused.stderr
