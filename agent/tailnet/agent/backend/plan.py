"""From wishes and network map to configuration: a pure function, and a value to look at.

A map of ten thousand peers changes one peer at a time, so :class:`PlanCache` keeps what was made of
each ``Node`` object; the control room replaces the object when, and only when, the node changed.

Source: tailscale ipn/ipnlocal/local.go, authReconfig, peerRoutes, routerConfigLocked;
wgengine/wgcfg/nmcfg/nmcfg.go, WGCfg.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network

from tailnet.agent.addr import CGNAT, SERVICE_V4, SERVICE_V6, ULA, IPAddress, IPNetwork
from tailnet.agent.backend.exitnode import EVERYTHING, find_exit_node
from tailnet.agent.backend.jail import without_sources
from tailnet.agent.backend.pathprefs import parse_endpoints, parse_policies
from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.prefs import Prefs, parse_routes
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.datapath.interface import PeerEntry
from tailnet.agent.filter.rules import Filter, compile_filter, is_refused
from tailnet.agent.keys import DiscoPublic, NodePublic, PeerId
from tailnet.agent.magicsock.endpoints import TELL_ALL, Telling
from tailnet.agent.magicsock.peers import PeerInfo, Policy
from tailnet.agent.slices import SLICE, Steps, finish, sliced
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.node import Node, NodeID
from tailnet.platform.interface import FirewallConfig, Guard, NetfilterMode, RouterConfig

# What a local network is made of; the guard must know before there are links.
PRIVATE: frozenset[IPNetwork] = frozenset(
    {
        ip_network("10.0.0.0/8"),
        ip_network("172.16.0.0/12"),
        ip_network("192.168.0.0/16"),
        ip_network("169.254.0.0/16"),
        ip_network("224.0.0.0/24"),
        ip_network("fc00::/7"),
        ip_network("fe80::/10"),
        ip_network("ff02::/16"),
    }
)
MAX_PEER_ROUTES = 10_000  # own IPv4 addresses of peers; beyond, one route for all of CGNAT


@dataclass(frozen=True, slots=True)
class PeerPlan:
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


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that follows from prefs and network map.

    Attributes:
        peers: those that can be talked to; expired and unreachable ones are left out.
        local: destinations that inbound packets may have.
        filter: rules for inbound packets.
        router: addresses and routes of the tunnel.
        firewall: the host's rules for it, without the ports of our sockets.
        derp_map: relays.
        exit_node: the peer that everything else goes to.
        exit_node_missing: there should be one, so everything else goes nowhere.
        routes_ignored: peers offer routes that are not accepted.
        filter_refused: the rules make no sense, so nothing is let in.
        changed: peers that differ from those of the plan before; ``None``: look at all.
        telling: what we tell others of our own addresses.
    """

    peers: Mapping[PeerId, PeerPlan]
    local: tuple[IPNetwork, ...]
    filter: Filter
    router: RouterConfig
    firewall: FirewallConfig
    derp_map: DERPMap
    exit_node: NodeID | None = None
    exit_node_missing: bool = False
    routes_ignored: bool = False
    filter_refused: bool = False
    changed: frozenset[PeerId] | None = None
    telling: Telling = TELL_ALL


@dataclass(frozen=True, slots=True)
class _Made:
    """What was made of one node: peer plan and what it adds to the routes."""

    node: Node
    peer: PeerId | None
    plan: PeerPlan | None
    own: tuple[IPNetwork, ...] = ()
    others: tuple[IPNetwork, ...] = ()
    offers_routes: bool = False


@dataclass(slots=True)
class PlanCache:
    """Memory of one sequence of plans; belongs to one backend.

    Dropped as a whole when the prefs that concern every peer change.
    """

    route_all: bool = False
    exit_node: NodeID | None = None
    policies: Mapping[str, Policy] = field(default_factory=dict)
    """By stable id of the peer."""
    made: dict[NodeID, _Made] = field(default_factory=dict)
    peers: dict[PeerId, PeerPlan] = field(default_factory=dict)
    planned: int = 0
    """Nodes in ``made`` with a plan; as many as ``peers`` unless two of them have one key."""
    own: dict[IPNetwork, int] = field(default_factory=dict)
    own_elsewhere: dict[IPNetwork, int] = field(default_factory=dict)
    """As ``own``, those outside of CGNAT."""
    others: dict[IPNetwork, int] = field(default_factory=dict)
    offering: int = 0
    router: RouterConfig | None = None
    self_node: Node | None = None
    self_prefixes: tuple[IPNetwork, ...] = ()
    """Addresses of ``self_node``."""
    local: frozenset[IPv4Interface | IPv6Interface] = frozenset()
    """The same, as the device has them."""
    rules: tuple[FilterRule, ...] | None = None
    jailed: set[NodeID] = field(default_factory=set)
    barred: list[IPNetwork] = field(default_factory=list)
    filter: Filter | None = None
    refused: bool = False
    announced: dict[NodeID, tuple[DiscoPublic, DiscoPublic]] = field(default_factory=dict)
    """Disco keys that peers told us themselves, each with control's that it replaces."""

    def announce(self, node: Node, key: DiscoPublic) -> bool:
        """A peer says that this is its disco key; valid until control says something new.

        Returns whether that is news.  A key that belongs to somebody else is not believed.
        """
        known = self.made.get(node.id)
        if known is None or known.plan is None or known.plan.info.disco_key == key or key.is_zero:
            return False
        if any(m.plan is not None and m.plan.info.disco_key == key for m in self.made.values()):
            return False
        self.announced[node.id] = (node.disco_key, key)
        self.note(self.made.pop(node.id), -1)
        return True

    def reset(self, *, route_all: bool, policies: Mapping[str, Policy]) -> None:
        """Forget what depends on prefs."""
        self.route_all, self.policies = route_all, policies
        self.made.clear()
        self.planned = 0
        self.own.clear()
        self.own_elsewhere.clear()
        self.others.clear()
        self.jailed.clear()
        self.offering = 0
        self.router = None

    def replace(self, node_id: NodeID, new: _Made | None) -> None:
        """Remember what was made of a node; ``None`` forgets it."""
        known = self.made.get(node_id)
        if _shares(known) != _shares(new):
            self.router = None
        if known is not None:
            self.note(known, -1)
        if new is not None:
            self.note(new, +1)
            self.made[node_id] = new
        elif known is not None:
            del self.made[node_id]
            self.announced.pop(node_id, None)

    def note(self, made: _Made, sign: int) -> None:
        """Add (+1) or take away (−1) a node's share of the routes."""
        self.offering += sign * made.offers_routes
        self.planned += sign * (made.plan is not None)
        if made.node.is_jailed:
            (self.jailed.add if sign > 0 else self.jailed.discard)(made.node.id)
        for route in made.own:
            _count(self.own if _in_cgnat(route) else self.own_elsewhere, route, sign)
        for route in made.others:
            _count(self.others, route, sign)


def make_plan(
    prefs: Prefs,
    netmap: NetworkMap,
    ids: PeerIds,
    cache: PlanCache | None = None,
    changed: Collection[NodeID] | None = None,
) -> Plan:
    """Compute the plan.

    Args:
        prefs: validated.
        netmap: the current view.
        ids: gives new peers their handles, and forgets peers that are long gone.
        cache: what earlier calls with the same ``ids`` made; makes this one cheap.
        changed: only these nodes differ from those of the last call with ``cache``.
    """
    return finish(plan_slices(prefs, netmap, ids, cache or PlanCache(), changed))


def plan_slices(
    prefs: Prefs,
    netmap: NetworkMap,
    ids: PeerIds,
    cache: PlanCache,
    changed: Collection[NodeID] | None = None,
) -> Steps[Plan]:
    """:func:`make_plan` in slices.  If it is given up, the next call must look at all nodes."""
    policies = parse_policies(prefs.path_policy or ())
    if cache.route_all != prefs.route_all or cache.policies != policies:
        cache.reset(route_all=prefs.route_all, policies=policies)
        changed = None
    exit_node = find_exit_node(prefs, netmap)
    if cache.exit_node != exit_node:
        cache.reset(route_all=prefs.route_all, policies=policies)
        cache.exit_node = exit_node
        changed = None
    touched = None
    if changed is not None and cache.planned == len(cache.peers):
        touched = _change_peers(prefs, netmap, ids, cache, changed)
    if touched is None or cache.planned != len(cache.peers):
        touched = None
        yield from _set_peers(prefs, netmap, ids, cache)
    _tidy(ids, cache.peers)
    routable = parse_routes(prefs.advertise_routes or ())
    router = _router(netmap.self_node, cache)
    if prefs.wants_exit_node:
        router = with_exit_node(router, lan=prefs.exit_node_allow_lan_access)
    return Plan(
        peers=cache.peers,
        local=tuple(dict.fromkeys((*cache.self_prefixes, *routable))),
        filter=_filter(prefs, netmap, cache),
        router=router,
        firewall=_firewall(prefs, netmap.self_node, router),
        derp_map=netmap.derp_map,
        exit_node=exit_node,
        exit_node_missing=prefs.wants_exit_node and exit_node is None,
        routes_ignored=bool(cache.offering) and not prefs.route_all,
        filter_refused=cache.refused,
        changed=touched,
        telling=Telling(
            tuple(prefs.endpoint_interfaces or ()), parse_endpoints(prefs.static_endpoints or ())
        ),
    )


def _set_peers(prefs: Prefs, netmap: NetworkMap, ids: PeerIds, cache: PlanCache) -> Steps[None]:
    """Look at every node."""
    peers: dict[PeerId, PeerPlan] = {}
    made, self_key = cache.made, netmap.self_node.key
    for part in sliced(tuple(netmap.peers.items())):
        for node_id, node in part:
            known = made.get(node_id)
            if known is None or known.node is not node:
                new = _make(node, ids, self_key, cache, accept_routes=prefs.route_all)
                cache.replace(node_id, new)
                known = new
            if known.plan is not None and known.peer is not None:
                peers[known.peer] = known.plan
        if len(part) == SLICE:
            yield
    if len(made) > len(netmap.peers):
        for gone in sliced([node_id for node_id in made if node_id not in netmap.peers]):
            for node_id in gone:
                cache.replace(node_id, None)
            if len(gone) == SLICE:
                yield
    cache.peers = peers


def _change_peers(
    prefs: Prefs, netmap: NetworkMap, ids: PeerIds, cache: PlanCache, changed: Collection[NodeID]
) -> frozenset[PeerId]:
    """Look at these nodes (and copy the table); whose plan changed.

    A new peer is the last one: it wins where two claim one prefix, until the next whole map.
    """
    peers, touched = cache.peers.copy(), set()
    for node_id in sorted(changed):
        known, node = cache.made.get(node_id), netmap.peers.get(node_id)
        if known is not None and node is known.node:
            continue
        new = None
        if node is not None:
            new = _make(node, ids, netmap.self_node.key, cache, accept_routes=prefs.route_all)
        cache.replace(node_id, new)
        if known is not None and known.peer is not None:
            touched.add(known.peer)
            if new is None or new.peer != known.peer:
                peers.pop(known.peer, None)
        if new is not None and new.peer is not None and new.plan is not None:
            peers[new.peer] = new.plan
            touched.add(new.peer)
    cache.peers = peers
    return frozenset(touched)


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
                out[peer] = replace(old, entry=PeerEntry(left))
    return out


def _shares(made: _Made | None) -> tuple[tuple[IPNetwork, ...], tuple[IPNetwork, ...]]:
    return (made.own, made.others) if made is not None else ((), ())


def _tidy(ids: PeerIds, peers: Mapping[PeerId, PeerPlan]) -> None:
    if len(ids) > 2 * len(peers) + 1024:
        ids.retain({plan.key for plan in peers.values()})


def _make(
    node: Node, ids: PeerIds, self_key: NodePublic, cache: PlanCache, *, accept_routes: bool
) -> _Made:
    own = node.address_prefixes()
    same = node.allowed_ips is None or node.allowed_ips == node.addresses
    allowed = own if same else node.allowed_prefixes()
    mine = tuple(p for p in allowed if p in own)
    subnets = tuple(p for p in allowed if p not in own and p.prefixlen)
    defaults = EVERYTHING if node.id == cache.exit_node else ()
    unreachable = node.disco_key.is_zero and not node.home_region and not node.is_wire_guard_only
    if node.expired or unreachable or node.key.is_zero or node.key == self_key:
        return _Made(node, None, None)
    disco = node.disco_key
    if (announced := cache.announced.get(node.id)) is not None:
        if announced[0] == disco:
            disco = announced[1]
        else:
            del cache.announced[node.id]
    accepted = subnets if accept_routes else ()
    plan = PeerPlan(
        node=node,
        key=node.key,
        entry=PeerEntry(allowed=tuple(dict.fromkeys((*mine, *accepted, *defaults)))),
        info=PeerInfo(
            node_key=node.key,
            disco_key=disco,
            endpoints=node.endpoint_addrs(),
            home_region=node.home_region,
            wireguard_only=node.is_wire_guard_only,
            policy=cache.policies.get(node.stable_id, Policy.AUTO),
        ),
    )
    v4 = tuple(p for p in mine if p.version == 4)
    v6 = {ULA if p.version == 6 and p.network_address in ULA else p for p in mine}
    return _Made(
        node,
        ids.of(node.key),
        plan,
        own=v4,
        others=(*(v6.difference(v4)), *accepted),
        offers_routes=bool(subnets),
    )


def _router(self_node: Node, cache: PlanCache) -> RouterConfig:
    if self_node is not cache.self_node:
        own = self_node.address_prefixes()
        cache.self_node, cache.self_prefixes = self_node, own
        cache.local = frozenset(ip_interface(p) for p in own if _is_single(p))
    last, local = cache.router, cache.local
    if last is None or last.local_addrs != local:
        many = len(cache.own) + len(cache.own_elsewhere) > MAX_PEER_ROUTES
        of_peers = (CGNAT,) if many else cache.own
        # one pass over 10,000 whose hashes are known
        routes = _services(local).union(of_peers, cache.own_elsewhere, cache.others)
        cache.router = last = RouterConfig(local, routes)
    return last


def _services(local: frozenset[IPv4Interface | IPv6Interface]) -> frozenset[IPNetwork]:
    """Routes to the daemon's own services, for the families we have."""
    families = {address.version for address in local}
    return frozenset(net for net in SERVICES if net.version in families)


def with_exit_node(router: RouterConfig, *, lan: bool) -> RouterConfig:
    """Everything goes into the tunnel, there or not; ``lan``: but not what the links have."""
    routes = router.routes.union(EVERYTHING)
    return replace(router, routes=routes, lan_direct=lan, leak_guard=True)


def guard(prefs: Prefs) -> Guard | None:
    """The kill switch."""
    if not prefs.kill_switch:
        return None
    return Guard(PRIVATE if prefs.exit_node_allow_lan_access else frozenset())


def _firewall(prefs: Prefs, self_node: Node, router: RouterConfig) -> FirewallConfig:
    return FirewallConfig(
        mode=NetfilterMode(prefs.netfilter_mode),
        addrs=frozenset(a.ip for a in router.local_addrs),
        snat=not prefs.no_snat,
        stateful=prefs.no_stateful_filtering is False,
        guard=guard(prefs),
        cgnat_drop="disable-linux-cgnat-drop-rule" not in (self_node.cap_map or {}),
    )


SERVICES = (ip_network(SERVICE_V4), ip_network(SERVICE_V6))
_CGNAT_SHIFT = CGNAT.max_prefixlen - CGNAT.prefixlen
_CGNAT_TOP = int(CGNAT.network_address) >> _CGNAT_SHIFT


def _in_cgnat(prefix: IPNetwork) -> bool:
    return (
        prefix.version == 4
        and prefix.prefixlen >= CGNAT.prefixlen
        and int(prefix.network_address) >> _CGNAT_SHIFT == _CGNAT_TOP
    )


def _count(counter: dict[IPNetwork, int], route: IPNetwork, sign: int) -> None:
    count = counter.get(route, 0) + sign
    if count:
        counter[route] = count
    else:
        del counter[route]


def _is_single(prefix: IPNetwork) -> bool:
    return prefix.prefixlen == prefix.max_prefixlen


def _filter(prefs: Prefs, netmap: NetworkMap, cache: PlanCache) -> Filter:
    if prefs.shields_up:
        return Filter.shields_up()
    rules = netmap.packet_filter
    by_capability = any(
        source.startswith("cap:") for rule in rules or () for source in rule.src_ips or ()
    )
    plans = (cache.made[node_id].plan for node_id in sorted(cache.jailed))
    barred = [net for plan in plans if plan is not None for net in plan.entry.allowed]
    same = rules is cache.rules and barred == cache.barred and not by_capability
    if cache.filter is None or not same:

        def with_capability(name: str) -> list[IPAddress]:
            return [
                ip
                for node in netmap.peers.values()
                if name in (node.cap_map or {})
                for ip in node.ips()
            ]

        compiled = compile_filter(rules, with_capability)
        cache.filter = without_sources(compiled, barred)
        cache.rules, cache.barred = rules, barred
        cache.refused = is_refused(rules)
    return cache.filter
