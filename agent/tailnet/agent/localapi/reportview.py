"""A measurement of the network as the LocalAPI shows it."""

from datetime import datetime

from tailnet.agent.localapi.schema.network import NetcheckReport
from tailnet.agent.netcheck.report import Report
from tailnet.agent.portmap.interface import PortmapSupport


def describe_report(
    report: Report, nearest: int, *, has_ipv6: bool, support: PortmapSupport, wall: datetime
) -> NetcheckReport:
    """Findings, nearest region (0: none answers), and what system and gateway can."""
    first4, first6 = report.first_seen(4), report.first_seen(6)
    return NetcheckReport(
        now=wall,
        udp=report.udp,
        ipv4=4 in report.versions,
        ipv6=6 in report.versions,
        ipv4_can_send=4 in report.can_send,
        ipv6_can_send=6 in report.can_send,
        os_has_ipv6=has_ipv6,
        icmpv4=report.icmp is True,
        mapping_varies_by_dest_ip=report.hard_nat,
        upnp=support.upnp,
        pmp=support.pmp,
        pcp=support.pcp,
        preferred_derp=nearest,
        region_latency={r: _ns(s) for r, s in sorted(report.by_region().items())},
        region_v4_latency=_of(report, 4),
        region_v6_latency=_of(report, 6),
        global_v4_counters=_counters(report, 4),
        global_v6_counters=_counters(report, 6),
        global_v4="" if first4 is None else str(first4),
        global_v6="" if first6 is None else str(first6),
        captive_portal=report.portal,
    )


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _of(report: Report, version: int) -> dict[int, int]:
    return {r: _ns(s) for (r, v), s in sorted(report.latency.items()) if v == version}


def _counters(report: Report, version: int) -> dict[str, int]:
    return {str(addr): times for addr, times in report.counters if addr.ip.version == version}
