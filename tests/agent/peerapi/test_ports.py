"""The port of the PeerAPI follows from the address."""

from ipaddress import ip_address

from tailnet.agent.peerapi.ports import port_of


def test_the_ports_that_upstream_takes() -> None:
    """Facts of Go nodes."""
    assert port_of(ip_address("100.64.0.1")) == 58436
    assert port_of(ip_address("100.64.0.1"), 1) == 36467
    assert port_of(ip_address("100.101.102.103")) == 59395


def test_both_families_of_a_node_share_it() -> None:
    """Where the IPv6 address ends as the IPv4 address does."""
    assert port_of(ip_address("100.64.0.7")) == port_of(ip_address("fd7a:115c:a1e0::6440:7"))
