"""Peers in jail: they may answer, and open nothing."""

from tailnet.agent.addr import IPNetwork
from tailnet.agent.filter.rules import Filter, Range


def without_sources(packet_filter: Filter, barred: list[IPNetwork]) -> Filter:
    """No rule lets ``barred`` in any more: jailed peers answer, and open nothing."""
    if not barred:
        return packet_filter
    holes = {
        version: sorted(
            (int(net.network_address), int(net.broadcast_address))
            for net in barred
            if net.version == version
        )
        for version in (4, 6)
    }
    v4, v6 = (
        tuple(
            match._replace(sources=sources)
            for match in matches
            if (sources := _subtract(match.sources, holes[version]))
        )
        for version, matches in ((4, packet_filter.v4), (6, packet_filter.v6))
    )
    return packet_filter._replace(v4=v4, v6=v6)


def _subtract(ranges: tuple[Range, ...], holes: list[Range]) -> tuple[Range, ...]:
    """What is left of disjoint ascending ranges; ``holes`` are sorted."""
    out: list[Range] = []
    for first, last in ranges:
        at = first
        for low, high in holes:
            if low > last:
                break
            if low > at:
                out.append((at, low - 1))
            at = max(at, high + 1)
        if at <= last:
            out.append((at, last))
    return tuple(out)
