"""Findings, and what control is told of them."""

from tailnet.agent.addr import AddrPort
from tailnet.agent.netcheck.report import Report, facts, net_info
from tailnet.agent.portmap.interface import Portmap, PortmapSupport

SEEN = (AddrPort.parse("5.5.5.5:1"),)


def test_net_info_says_what_was_found() -> None:
    """Unknown is absent, and latencies alone are no news."""
    info = net_info(Report({(1, 4): 0.01}, SEEN, None, asked=True, udp=True), 1, has_ipv6=True)
    assert info.working_udp is True
    assert info.working_ipv6 is False
    assert info.os_has_ipv6 is True
    assert info.mapping_varies_by_dest_ip is None
    assert info.working_icmpv4 is None
    assert info.derp_latency == {"1-v4": 0.01}
    later = net_info(Report({(1, 4): 0.02}, SEEN, None, asked=True, udp=True), 1, has_ipv6=True)
    assert facts(later) == facts(info)
    silent = net_info(Report({}, (), None, asked=True), 1, has_ipv6=False)
    assert silent.working_udp is False
    unasked = net_info(Report({}, (), None, asked=False), 1, has_ipv6=False)
    assert unasked.working_udp is None


def test_net_info_says_what_the_gateway_does_for_us() -> None:
    """What was not asked is absent; a change of it is news."""
    report = Report({}, (), None, asked=True)
    unasked = net_info(report, 1, has_ipv6=False)
    assert (unasked.upnp, unasked.pmp, unasked.pcp, unasked.have_port_map) == (*[None] * 3, False)
    support = PortmapSupport(upnp=True, pmp=False, pcp=True)
    portmap = Portmap(AddrPort.parse("5.5.5.5:1"), support)
    info = net_info(report, 1, has_ipv6=False, portmap=portmap)
    assert (info.upnp, info.pmp, info.pcp, info.have_port_map) == (True, False, True, True)
    assert facts(info) != facts(unasked)


def test_latencies_by_https_are_no_udp() -> None:
    """But told: they say which relay is near."""
    info = net_info(Report({(1, 4): 0.01}, (), None, asked=True, icmp=True), 1, has_ipv6=True)
    assert (info.working_udp, info.working_icmpv4) == (False, True)
    assert info.derp_latency == {"1-v4": 0.01}


def test_region_counts_by_its_faster_family() -> None:
    """Each region once."""
    report = Report({(1, 4): 0.02, (1, 6): 0.01, (2, 4): 0.03}, (), None, asked=True)
    assert report.by_region() == {1: 0.01, 2: 0.03}
    assert report.versions == {4, 6}
