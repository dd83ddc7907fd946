"""A plan as a tree for JSON: the same plan is always the same text, so that two can be compared.

Peers are named by their node keys, since handles differ from one run of the daemon to the next.
"""

from collections.abc import Iterable
from ipaddress import ip_address

from tailnet.agent.backend.plan import Plan
from tailnet.agent.filter.rules import Match, Range

Tree = dict[str, object]


def describe(plan: Plan | None) -> Tree:
    """Everything that the plan says; ``None`` is "no network"."""
    if plan is None:
        return {"Peers": [], "Router": None}
    peers = sorted(plan.peers.values(), key=lambda peer: peer.node.id)
    return {
        "Local": [str(net) for net in plan.local],
        "Router": {
            "LocalAddrs": _sorted(plan.router.local_addrs),
            "Routes": _sorted(plan.router.routes),
            "LocalRoutes": _sorted(plan.router.local_routes),
        },
        "Filter": {
            "Refused": plan.filter_refused,
            "IPv4": [_match(match, 4) for match in plan.filter.v4],
            "IPv6": [_match(match, 6) for match in plan.filter.v6],
        },
        "Relays": sorted(plan.derp_map.regions or ()),
        "RoutesIgnored": plan.routes_ignored,
        "Peers": [
            {
                "Key": str(peer.key),
                "Name": peer.node.name,
                "Allowed": [str(net) for net in peer.entry.allowed],
                "DiscoKey": str(peer.info.disco_key),
                "Endpoints": [str(endpoint) for endpoint in peer.info.endpoints],
                "HomeRegion": peer.info.home_region,
                "WireGuardOnly": peer.info.wireguard_only,
            }
            for peer in peers
        ],
    }


def _sorted(items: Iterable[object]) -> list[str]:
    return sorted(str(item) for item in items)


def _match(match: Match, version: int) -> Tree:
    return {
        "Protocols": sorted(match.protos),
        "Sources": [_range(span, version) for span in match.sources],
        "Destinations": [
            {"Addresses": _range((first, last), version), "Ports": f"{low}-{high}"}
            for first, last, low, high in match.destinations
        ],
    }


def _range(span: Range, version: int) -> str:
    first, last = (ip_address(number.to_bytes(4 if version == 4 else 16, "big")) for number in span)
    return str(first) if first == last else f"{first}-{last}"
