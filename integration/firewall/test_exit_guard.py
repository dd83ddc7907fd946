"""The guard of an exit node beside bridges, on a real kernel.

::

    peer 10.88.0.2 ── br0 (host, 10.88.0.1) ── far 10.88.0.3
"""

from dataclasses import replace
from pathlib import Path

import pytest
from integration.firewall.conftest import WALL, Daemon
from integration.firewall.network import Network, nft, said
from tests.support.platform_netns import ip

from tailnet.platform.interface import ExitGuard
from tailnet.platform.linux.nft.guard import EXIT_TABLE
from tailnet.platform.linux.nft.ruleset import TABLE

pytestmark = pytest.mark.netns

SHOWN = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


@pytest.mark.parametrize("shown", ["0", "1"])
def test_what_a_bridge_passes_on_passes(net: Network, daemon: Daemon, shown: str) -> None:
    """Also where br_netfilter shows it to the firewall; the host's own packets do with the LAN."""
    ip("link", "add", "br0", "type", "bridge")
    ip("address", "add", "10.88.0.1/24", "dev", "br0")
    ip("link", "set", "br0", "up")
    for number, who in enumerate(("peer", "far"), 2):
        port = f"port{number}"
        end = ("peer", "name", "eth1", "netns", net.path(who))
        ip("link", "add", port, "type", "veth", *end)
        ip("link", "set", port, "master", "br0", "up")
        said(*net.words(who, "ip", "address", "add", f"10.88.0.{number}/24", "dev", "eth1"))
        said(*net.words(who, "ip", "link", "set", "eth1", "up"))
    if SHOWN.exists():
        SHOWN.write_text(shown)
    for lan in (False, True):
        daemon.apply(replace(WALL, exit_guard=ExitGuard(lan)))
        assert net.pings("peer", "10.88.0.3")
        assert net.pings("peer", "10.88.0.1") is lan
    ip("link", "add", "br1", "type", "bridge")
    assert not daemon.intact()  # it is to know of every bridge
    daemon.apply(replace(WALL, exit_guard=ExitGuard(lan=True)))
    assert 'iifname "br1" oifname "br1" accept' in nft("list", "table", "inet", EXIT_TABLE)


@pytest.mark.usefixtures("net")
def test_at_the_end_the_guard_stays_where_it_is_wanted() -> None:
    """As after a failure; the next end without that wish takes it away."""
    for kept in (True, False):
        daemon = Daemon()
        daemon.apply(replace(WALL, exit_guard=ExitGuard(lan=False)))
        daemon.down(leak_guard=kept)
        tables = nft("list", "tables").split()
        assert (EXIT_TABLE in tables) is kept
        assert TABLE not in tables
