"""From wishes and network map to configuration: a pure function, and a value to look at.

Source: tailscale ipn/ipnlocal/local.go, authReconfig.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from immutables import Map

from tailnet.agent.addr import IPAddress, IPNetwork
from tailnet.agent.backend.acceptance import parse_acceptance
from tailnet.agent.backend.attributes import USUAL, Attributes, attributes_of
from tailnet.agent.backend.exitnode import find_exit_node
from tailnet.agent.backend.pathprefs import parse_endpoints, parse_policies
from tailnet.agent.backend.peerplan import PeerPlan
from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.plancache import PlanCache, Terms
from tailnet.agent.backend.prefs import Prefs, parse_routes
from tailnet.agent.backend.relaying import NO_SERVER, RelayServerWish
from tailnet.agent.backend.wall import firewall
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import PeerId
from tailnet.agent.magicsock.endpoints import TELL_ALL, Telling
from tailnet.agent.slices import SLICE, Steps, finish, sliced
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.node import Node, NodeID
from tailnet.platform.interface import FirewallConfig, RouterConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that follows from prefs and network map.

    Attributes:
        peers: those that can be talked to; expired and unreachable ones are left out.  In no
            order: see :meth:`in_order`.
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
        relay_server: the peer relay that we are, if any.
        attributes: what control switched on or off.
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
    relay_server: RelayServerWish | None = None
    attributes: Attributes = USUAL

    def in_order(self) -> dict[PeerId, PeerPlan]:
        """The peers by node id: where two claim one prefix, the last has it."""
        return dict(sorted(self.peers.items(), key=lambda entry: entry[1].node.id))

    def peer_at(self, ip: IPAddress) -> PeerId | None:
        """The peer whose own address ``ip`` is."""
        own = ip_network(ip)  # among the destinations, which are parsed already
        for peer, entry in self.peers.items():
            if own in entry.entry.allowed and ip in entry.node.ips():
                return peer
        return None

    def node_at(self, ip: IPAddress) -> Node | None:
        """As control describes that peer."""
        peer = self.peer_at(ip)
        return None if peer is None else self.peers[peer].node


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
    exit_node = find_exit_node(prefs, netmap, cache.terms.exit_node)
    accept = parse_acceptance(prefs.accept_routes or (), on=prefs.route_all)
    policies = parse_policies(prefs.path_policy or ())
    attributes = attributes_of(netmap.self_node)
    relays = cache.relays.of(netmap)
    terms = Terms(
        accept, policies, exit_node, relays, attributes.only_relays, netmap.self_node.ips()
    )
    if cache.terms != terms:
        cache.reset(terms)
        changed = None
    touched = None
    if changed is not None and cache.planned == len(cache.peers):
        touched = _change_peers(netmap, ids, cache, changed)
    if touched is None or cache.planned != len(cache.peers):
        touched = None
        yield from _set_peers(netmap, ids, cache)
    _tidy(ids, cache.peers)
    own = netmap.self_node.address_prefixes()
    routes, lan = cache.routes, prefs.exit_node_allow_lan_access
    leads = prefs.wants_exit_node
    me = netmap.self_node
    router = routes.led_to_exit(me, lan=lan) if leads else routes.config(me)
    return Plan(
        peers=cache.peers,
        local=tuple(dict.fromkeys((*own, *parse_routes(prefs.advertise_routes or ())))),
        filter=Filter.shields_up()
        if prefs.shields_up
        else cache.filter.compiled(netmap, cache.barred()),
        router=router,
        firewall=firewall(prefs, netmap.self_node, router),
        derp_map=netmap.derp_map,
        exit_node=exit_node,
        exit_node_missing=prefs.wants_exit_node and exit_node is None,
        routes_ignored=bool(cache.offering),
        filter_refused=cache.filter.refused,
        changed=touched,
        telling=Telling(
            tuple(prefs.endpoint_interfaces or ()), parse_endpoints(prefs.static_endpoints or ())
        ),
        relay_server=_relay_server(prefs, netmap),
        attributes=attributes,
    )


def _relay_server(prefs: Prefs, netmap: NetworkMap) -> RelayServerWish | None:
    if prefs.relay_server_port is None or NO_SERVER in (netmap.self_node.cap_map or {}):
        return None
    endpoints = parse_endpoints(prefs.relay_server_static_endpoints or ())
    return RelayServerWish(prefs.relay_server_port, endpoints)


def _set_peers(netmap: NetworkMap, ids: PeerIds, cache: PlanCache) -> Steps[None]:
    """Look at every node."""
    peers: dict[PeerId, PeerPlan] = {}
    made, self_key = cache.made, netmap.self_node.key
    for part in sliced(sorted(netmap.peers)):
        for node_id in part:
            known, node = made.get(node_id), netmap.peers[node_id]
            if known is None or known.node is not node:
                known = cache.make(node, ids, self_key)
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
    cache.peers = Map(peers)


def _change_peers(
    netmap: NetworkMap, ids: PeerIds, cache: PlanCache, changed: Collection[NodeID]
) -> frozenset[PeerId]:
    """Look at these nodes; whose plan changed."""
    peers, touched = cache.peers.mutate(), set[PeerId]()
    for node_id in sorted(changed):
        known, node = cache.made.get(node_id), netmap.peers.get(node_id)
        if known is not None and node is known.node:
            continue
        new = None
        if node is not None:
            new = cache.make(node, ids, netmap.self_node.key)
        else:
            cache.replace(node_id, None)
        if known is not None and known.peer is not None:
            touched.add(known.peer)
            if new is None or new.peer != known.peer:
                peers.pop(known.peer, None)
        if new is not None and new.peer is not None and new.plan is not None:
            peers[new.peer] = new.plan
            touched.add(new.peer)
    cache.peers = peers.finish()
    return frozenset(touched)


def _tidy(ids: PeerIds, peers: Mapping[PeerId, PeerPlan]) -> None:
    if len(ids) > 2 * len(peers) + 1024:
        ids.retain({plan.key for plan in peers.values()})
