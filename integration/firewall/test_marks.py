"""Marks that connections remember, by packets: restored for this host, not for what it forwards.

A default route into the tunnel stands in table 52, as with an exit node, and the policy rules of
the router before it: what carries the daemon's mark asks table main, and goes nowhere else.
"""

import subprocess
from dataclasses import replace
from pathlib import Path
from socket import AF_INET, AF_INET6

import pytest
from integration.firewall.conftest import WALL, Daemon
from integration.firewall.network import FAR, FAR6, PEER, PEER6, TUN, Network, said
from integration.lab.waiting import until
from tests.support.platform_netns import ip

from tailnet.platform.linux.constants import BYPASS_MARK
from tailnet.platform.linux.rules import policy_rules

pytestmark = pytest.mark.netns

ANOTHERS = f"""
table inet another {{
	chain through {{
		type filter hook forward priority 0;
		ct mark set {BYPASS_MARK:#x}
	}}
}}
"""


@pytest.fixture
def through_the_tunnel(net: Network) -> Network:
    """Both families."""
    for family, version in ((AF_INET, "-4"), (AF_INET6, "-6")):
        ip(version, "route", "add", "default", "dev", TUN, "table", "52")
        for rule in policy_rules(family):
            mark = ("fwmark", f"{rule.mark:#x}/{rule.mask:#x}") if rule.mask else ()
            goal = ("unreachable",) if rule.table is None else ("lookup", str(rule.table))
            ip(version, "rule", "add", "pref", str(rule.priority), *mark, *goal)
    return net


def answered(address: str) -> bool:
    """A ping with the daemon's mark is."""
    words = ["ping", "-n", "-c1", "-W0.4", "-m", str(BYPASS_MARK), address]
    return subprocess.run(words, capture_output=True, timeout=10, check=False).returncode == 0


@pytest.mark.usefixtures("through_the_tunnel")
def test_answers_to_marked_packets_pass_a_strict_filter(daemon: Daemon) -> None:
    """They come unmarked, by another way than the default route's; it asks with the mark."""
    for name in ("all", "lan0"):
        Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("1")
    assert not answered(FAR)
    daemon.apply()
    assert answered(FAR)
    daemon.down()
    assert not answered(FAR)


def test_a_forwarded_packet_is_never_sent_where_the_mark_would_send_it(
    through_the_tunnel: Network, daemon: Daemon
) -> None:
    """Though another program gave its connection such a mark: peers are in table 52 alone."""
    net = through_the_tunnel
    for peer, lan, back in ((PEER, "10.77.0.0/24", "10.77.0.1"), (PEER6, "fd77::/64", "fd77::1")):
        ip("route", "del", peer, "dev", TUN)
        ip("route", "add", "throw", lan, "table", "52")
        said(*net.words("far", "ip", "route", "add", peer, "via", back))
    daemon.apply(replace(WALL, snat=False))
    until("neighbours", lambda: net.pings("peer", FAR) and net.pings("peer", FAR6), 10.0)
    said("nft", "-f", "-", feed=ANOTHERS)
    assert net.pings("peer", FAR)
    assert net.pings("peer", FAR6)
