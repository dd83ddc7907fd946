"""What a measurement found, and what control is told of it.

Source: tailscale net/netcheck/netcheck.go Report; tailcfg NetInfo; magicsock.go updateNetInfo.
"""

from typing import NamedTuple

from msgspec import structs

from tailnet.agent.addr import AddrPort
from tailnet.agent.portmap.interface import NO_PORTMAP, Portmap
from tailnet.agent.tailcfg.node import NetInfo


class Report(NamedTuple):
    """What was found.

    Attributes:
        latency: seconds by (region, IP version), of STUN or of what stood in for it.
        seen: our addresses as seen from outside: the first answer's of each family, then those
            that several servers saw.
        hard_nat: two servers saw different IPv4 addresses; ``None`` if fewer than two answered.
        asked: a server was asked at all.
        udp: STUN was answered.
        counters: how many servers saw which of our addresses, the first answer's first.
        can_send: IP versions of which a request could be sent.
        icmp: relays answer pings; ``None`` if that was not tried, because UDP works.
        portal: the network wants a login in a web page; ``None`` if that is not known.
    """

    latency: dict[tuple[int, int], float]
    seen: tuple[AddrPort, ...]
    hard_nat: bool | None
    asked: bool
    udp: bool = False
    counters: tuple[tuple[AddrPort, int], ...] = ()
    can_send: frozenset[int] = frozenset()
    icmp: bool | None = None
    portal: bool | None = None

    def by_region(self) -> dict[int, float]:
        """Latency [s] of each region that answered, by its faster family."""
        best: dict[int, float] = {}
        for (region, _), latency in self.latency.items():
            best[region] = min(latency, best.get(region, latency))
        return best

    @property
    def versions(self) -> frozenset[int]:
        """IP versions that worked."""
        return frozenset(version for _, version in self.latency)

    def first_seen(self, version: int) -> AddrPort | None:
        """Our address of a family as the first answer has it."""
        return next((addr for addr, _ in self.counters if addr.ip.version == version), None)


def net_info(
    report: Report, home: int, *, has_ipv6: bool, portmap: Portmap = NO_PORTMAP
) -> NetInfo:
    """What control is told of a measurement."""
    return NetInfo(
        mapping_varies_by_dest_ip=report.hard_nat,
        working_ipv6=6 in report.versions,
        os_has_ipv6=has_ipv6,
        working_udp=report.udp if report.asked else None,
        working_icmpv4=report.icmp,
        upnp=portmap.support.upnp,
        pmp=portmap.support.pmp,
        pcp=portmap.support.pcp,
        have_port_map=portmap.external is not None,
        preferred_derp=home,
        derp_latency={f"{r}-v{v}": s for (r, v), s in sorted(report.latency.items())} or None,
    )


def facts(info: NetInfo) -> NetInfo:
    """Without latencies, which alone are not worth telling control."""
    return structs.replace(info, derp_latency=None)
