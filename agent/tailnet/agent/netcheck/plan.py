"""Which STUN servers are asked, and when.

Source: tailscale net/netcheck/netcheck.go makeProbePlan, makeProbePlanInitial, sortRegions.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from tailnet.agent.tailcfg.derpmap import DEFAULT_STUN_PORT, DERPMap, DERPNode, DERPRegion

INITIAL_RETRANSMIT = 0.1  # s between the tries of a first report
ACTIVE_RETRANSMIT = 0.2  # s between the tries at a region whose latency is not known
SLACK = 1.2  # of the last latency, from one try to the next
LATER_SLACK = 0.05  # s more for each try from the third on
INITIAL_TRIES = 3
FASTEST = 3  # regions that are measured each time
FASTEST_TRIES = 2  # at the first two of them
HOME_TRIES = 4
MAX_REGIONS = 128
VERSIONS: tuple[int, int] = (4, 6)


class Probe(NamedTuple):
    """A request to a STUN server, ``delay`` seconds after the start."""

    delay: float
    node: DERPNode


Plan = dict[tuple[int, int], tuple[Probe, ...]]
"""Tries by (region, IP version), in order of time; one answer makes the rest of them needless."""


class Last(NamedTuple):
    """What is known from before: latency [s] by region, and IP versions that worked."""

    latency: Mapping[int, float]
    versions: frozenset[int]


def measurable(derp_map: DERPMap) -> dict[int, DERPRegion]:
    """Regions that may be measured at all."""
    return {
        r: region
        for r, region in (derp_map.regions or {}).items()
        if region is not None and not region.no_measure_no_home and region.nodes
    }


def literal(node: DERPNode, version: int) -> str:
    """Its address of that family; empty if there is none, or the name has to be resolved."""
    kind: Callable[[str], object] = IPv4Address if version == 4 else IPv6Address
    text = node.stun_test_ip or (node.ipv4 if version == 4 else node.ipv6)
    try:
        kind(text)
    except AddressValueError:
        return ""
    return text


def needs_name(node: DERPNode, version: int) -> bool:
    """True if only DNS knows its address of that family."""
    text = node.ipv4 if version == 4 else node.ipv6
    return not (text or node.stun_test_ip) and bool(node.host_name)


def stun_port(node: DERPNode) -> int:
    """UDP port; negative if it has no STUN."""
    return node.stun_port or DEFAULT_STUN_PORT


def make_plan(derp_map: DERPMap, versions: Collection[int], last: Last | None, home: int) -> Plan:
    """All regions if there is no ``last``, else the fastest and home.

    Args:
        derp_map: the regions there are.
        versions: of IP that this machine has addresses of.
        last: what is known; without any latency it is worth nothing.
        home: our home region, 0 if none.
    """
    regions = measurable(derp_map)
    if last is None or not regions.keys() & last.latency.keys():
        return _initial(regions, versions)
    return _incremental(regions, versions, last, home)


def _initial(regions: Mapping[int, DERPRegion], versions: Collection[int]) -> Plan:
    plan: Plan = {}
    for r, region in sorted(regions.items())[:MAX_REGIONS]:
        for version in versions:
            delays = (i * INITIAL_RETRANSMIT for i in range(INITIAL_TRIES))
            _add(plan, (r, version), region, delays)
    return plan


def _incremental(
    regions: Mapping[int, DERPRegion], versions: Collection[int], last: Last, home: int
) -> Plan:
    known = sorted(
        (
            r
            for r, region in regions.items()
            if r in last.latency and (not region.avoid or r == home)
        ),
        key=lambda r: (last.latency[r], r),
    )
    chosen = list(dict.fromkeys([*known[:FASTEST], *([home] if home in regions else [])]))
    plan: Plan = {}
    for rank, r in enumerate(chosen):
        tries = HOME_TRIES if r == home else FASTEST_TRIES if rank < FASTEST_TRIES else 1
        step = last.latency[r] * SLACK if r in last.latency else ACTIVE_RETRANSMIT
        delays = [i * step + (i * LATER_SLACK if i > 1 else 0.0) for i in range(tries)]
        for version in _families(rank, set(versions), last.versions):
            again = version == 4 or 6 in last.versions
            _add(plan, (r, version), regions[r], delays if again else delays[:1])
    return plan


def _families(rank: int, versions: set[int], answered: Collection[int]) -> list[int]:
    """IP versions in which the region of this rank, 0 being the nearest, is asked.

    The nearest in all there are, the others by turns; IPv6 not at these if it is silent.
    """
    if rank < FASTEST_TRIES:
        return sorted(versions)
    if all(version in versions and version in answered for version in VERSIONS):
        return [4 if rank % 2 == 0 else 6]
    return sorted(versions if 6 in answered else versions - {6})


def _add(plan: Plan, key: tuple[int, int], region: DERPRegion, delays: Iterable[float]) -> None:
    """Tries at the region's nodes in turn, those without STUN or this family left out."""
    version = key[1]
    nodes = [
        node
        for node in region.nodes or ()
        if stun_port(node) > 0 and (literal(node, version) or needs_name(node, version))
    ]
    if nodes:
        plan[key] = tuple(Probe(delay, nodes[i % len(nodes)]) for i, delay in enumerate(delays))
