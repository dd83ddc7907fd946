"""What becomes of one node of the network map, in the terms of each room.

Source: tailscale wgengine/wgcfg/nmcfg/nmcfg.go, WGCfg; ipn/ipnlocal/local.go, peerRoutes.
"""

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple

from tailnet.agent.addr import ULA, IPAddress, IPNetwork
from tailnet.agent.backend.acceptance import Acceptance
from tailnet.agent.backend.routes import NOTHING, ULA_ALONE, Share
from tailnet.agent.datapath.interface import PeerEntry
from tailnet.agent.keys import DiscoPublic, NodePublic, PeerId
from tailnet.agent.magicsock.peers import PeerInfo, Policy, Relaying
from tailnet.agent.tailcfg.node import Node


class PeerPlan(NamedTuple):
    """One peer, in the terms of each room.

    Attributes:
        node: as control described it.
        key: its WireGuard key.
        entry: destinations routed to it, for the datapath.
        info: how to reach it, for magicsock.
    """

    node: Node
    key: NodePublic
    entry: PeerEntry
    info: PeerInfo


class Made(NamedTuple):
    """What was made of one node.

    Attributes:
        node: of this.
        peer, plan: ``None`` if it cannot be talked to.
        share: what it adds to the routes.
        offers: it offers routes that are not accepted.
    """

    node: Node
    peer: PeerId | None = None
    plan: PeerPlan | None = None
    share: Share = NOTHING
    offers: bool = False


def can_be_talked_to(node: Node, self_key: NodePublic) -> bool:
    """It has a key of its own that is valid, and a way to reach it."""
    if node.expired or node.key.is_zero or node.key == self_key:
        return False
    return bool(node.home_region) or not node.disco_key.is_zero or node.is_wire_guard_only


def plan_peer(  # noqa: PLR0913 -- what a peer's plan depends on
    node: Node,
    *,
    disco: DiscoPublic,
    accept: Acceptance,
    defaults: tuple[IPNetwork, ...],
    policy: Policy,
    relaying: Relaying,
    ours: tuple[IPAddress, ...] = (),
) -> tuple[PeerPlan, Share, bool]:
    """Its plan, its share of the routes, and whether it offers routes that are not accepted.

    Args:
        node: one that can be talked to.
        disco: its disco key.
        accept: which subnet routes are used.
        defaults: what it has besides, as the exit node.
        policy: which ways to it are allowed.
        relaying: what it has to do with peer relays.
        ours: our addresses; some peers know others instead.
    """
    mine = own = node.address_prefixes()
    subnets: tuple[IPNetwork, ...] = ()
    accepted: tuple[IPNetwork, ...] = ()
    if node.allowed_ips is not None and node.allowed_ips != node.addresses:
        allowed = node.allowed_prefixes()
        mine = tuple(p for p in allowed if p in own)
        subnets = tuple(p for p in allowed if p not in own and p.prefixlen)
        accepted = accept.of(node, subnets)
    destinations = (*mine, *accepted, *defaults)
    if len(destinations) != 2 or destinations[0] == destinations[1]:
        destinations = tuple(dict.fromkeys(destinations))
    info = PeerInfo(
        node.key,
        disco,
        node.endpoint_addrs(),
        node.home_region,
        node.is_wire_guard_only,
        policy,
        relaying,
    )
    plan = PeerPlan(node, node.key, PeerEntry(destinations, _masquerade(node, ours)), info)
    share = Share(_of_v4(mine), _of_v6(mine), accepted)
    return plan, share, bool(subnets) and not accept.on


def _of_v4(own: tuple[IPNetwork, ...]) -> tuple[IPv4Network, ...]:
    return tuple([p for p in own if isinstance(p, IPv4Network)])


def _of_v6(own: tuple[IPNetwork, ...]) -> tuple[IPv6Network, ...]:
    """One route for the addresses of all peers, where they are of a tailnet's range."""
    found = [p for p in own if isinstance(p, IPv6Network)]
    if len(found) == 1 and _is_ours(found[0]):
        return ULA_ALONE  # nearly all
    return tuple({ULA if _is_ours(p) else p for p in found})


def _masquerade(node: Node, own: tuple[IPAddress, ...]) -> tuple[tuple[IPAddress, IPAddress], ...]:
    """Our addresses with those that the peer knows instead; without one where control says none.

    Source: tailscale net/tstun/wrap.go, peerConfigTableFromWGConfig.
    """
    known = node.self_node_v4_masq_addr_for_this_peer, node.self_node_v6_masq_addr_for_this_peer
    if not any(known):  # as it is for nearly all
        return ()
    found = {}
    for text in filter(None, known):
        with suppress(ValueError):  # nonsense is no address
            other = ip_address(text)
            mine = next((ip for ip in own if ip.version == other.version), other)
            if mine != other:
                found[mine.version] = mine, other
    return tuple(found.values())


_ULA_SHIFT = ULA.max_prefixlen - ULA.prefixlen
_ULA_TOP = int(ULA.network_address) >> _ULA_SHIFT


def _is_ours(own: IPv6Network) -> bool:
    return int(own.network_address) >> _ULA_SHIFT == _ULA_TOP


def less(
    have: Mapping[PeerId, PeerPlan], news: Mapping[PeerId, PeerPlan | None], *, everything: bool
) -> dict[PeerId, PeerPlan | None]:
    """What peers lose on the way from ``have`` to ``news``: ``None``, or fewer prefixes.

    ``everything``: who is not in ``news`` is gone.
    """
    out: dict[PeerId, PeerPlan | None] = {}
    for peer, old in have.items() if everything else [(p, have[p]) for p in news if p in have]:
        new = news.get(peer)
        if new is None:
            out[peer] = None
        elif new is not old and new.entry.allowed != old.entry.allowed:
            left = tuple(net for net in old.entry.allowed if net in new.entry.allowed)
            if len(left) < len(old.entry.allowed):
                out[peer] = old._replace(entry=old.entry._replace(allowed=left))
    return out
