"""What is remembered from one plan to the next: of ten thousand peers, one changes at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from immutables import Map

from tailnet.agent.addr import IPAddress, IPNetwork
from tailnet.agent.backend.acceptance import NO_ROUTES, Acceptance
from tailnet.agent.backend.exitnode import EVERYTHING
from tailnet.agent.backend.jail import without_sources
from tailnet.agent.backend.peerplan import Made, PeerPlan, can_be_talked_to, plan_peer
from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.relaying import NO_RULES, RelayRules
from tailnet.agent.backend.routes import NOTHING, Routes, Share
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.filter.rules import Filter, compile_filter, is_refused
from tailnet.agent.keys import DiscoPublic, NodePublic, PeerId
from tailnet.agent.magicsock.peers import Policy
from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.node import Node, NodeID


@dataclass(frozen=True, slots=True)
class Terms:
    """What the plan of every peer depends on; with others, all of them are made again.

    Attributes:
        accept: which subnet routes are used.
        policies: ways to peers that the user allows, by stable id.
        exit_node: the peer that everything else goes to.
        relays: who is a peer relay, and for whom we are one.
        only_relays: no peer is reached by UDP.
        own: our addresses, of which some peers know others.
    """

    accept: Acceptance = NO_ROUTES
    policies: Mapping[str, Policy] = field(default_factory=dict)
    exit_node: NodeID | None = None
    relays: RelayRules = NO_RULES
    only_relays: bool = False
    own: tuple[IPAddress, ...] = ()

    def unreachable(self, node: Node) -> bool:
        """An ordinary WireGuard host, to which no relay leads."""
        return self.only_relays and node.is_wire_guard_only

    def policy(self, node: Node) -> Policy:
        """Which ways to a peer are allowed."""
        if self.only_relays:
            return Policy.RELAY_ONLY
        return self.policies.get(node.stable_id, Policy.AUTO)


@dataclass(slots=True)
class FilterMemory:
    """The compiled filter of the rules seen last."""

    rules: tuple[FilterRule, ...] | None = None
    barred: list[IPNetwork] = field(default_factory=list)
    filter: Filter | None = None
    refused: bool = False

    def compiled(self, netmap: NetworkMap, barred: list[IPNetwork]) -> Filter:
        """The rules of the network map, without sources in ``barred``."""
        rules = netmap.packet_filter
        by_capability = any(
            source.startswith("cap:") for rule in rules or () for source in rule.src_ips or ()
        )
        same = rules is self.rules and barred == self.barred and not by_capability
        if self.filter is None or not same:
            self.filter = without_sources(compile_filter(rules, netmap.with_capability), barred)
            self.rules, self.barred = rules, barred
            self.refused = is_refused(rules)
        return self.filter


@dataclass(slots=True)
class RelayMemory:
    """What the rules seen last say about peer relays."""

    rules: tuple[FilterRule, ...] | None = None
    own: tuple[IPAddress, ...] = ()
    value: RelayRules = NO_RULES

    def of(self, netmap: NetworkMap) -> RelayRules:
        """The network map's."""
        rules, own = netmap.packet_filter, netmap.self_node.ips()
        if rules is not self.rules or own != self.own:
            self.rules, self.own = rules, own
            self.value = RelayRules.of(rules or (), own)
        return self.value


@dataclass(slots=True)
class PlanCache:
    """Memory of one sequence of plans; belongs to one backend.

    It keeps what was made of each ``Node`` object: the control room replaces the object when, and
    only when, the node changed.  Dropped as a whole when the terms change.
    """

    terms: Terms = field(default_factory=Terms)
    made: dict[NodeID, Made] = field(default_factory=dict)
    peers: Map[PeerId, PeerPlan] = field(default_factory=Map)
    planned: int = 0
    """Nodes in ``made`` with a plan; as many as ``peers`` unless two of them have one key."""
    offering: int = 0
    """Of these, those with routes that are not accepted."""
    routes: Routes = field(default_factory=Routes)
    filter: FilterMemory = field(default_factory=FilterMemory)
    relays: RelayMemory = field(default_factory=RelayMemory)
    jailed: set[NodeID] = field(default_factory=set)
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
        self._note(known, -1)
        self.routes.replace(known.share, NOTHING)
        del self.made[node.id]
        return True

    def reset(self, terms: Terms) -> None:
        """Forget what depends on other terms."""
        self.terms = terms
        self.made.clear()
        self.routes.clear()
        self.jailed.clear()
        self.planned = self.offering = 0

    def make(self, node: Node, ids: PeerIds, self_key: NodePublic) -> Made:
        """Make anew what becomes of a node, and remember it."""
        if can_be_talked_to(node, self_key) and not self.terms.unreachable(node):
            plan, share, offers = plan_peer(
                node,
                disco=self._disco_key(node),
                accept=self.terms.accept,
                defaults=EVERYTHING if node.id == self.terms.exit_node else (),
                policy=self.terms.policy(node),
                relaying=self.terms.relays.role(node),
                ours=self.terms.own,
            )
            made = Made(node, ids.of(node.key), plan, share, offers)
        else:
            barred = tuple(net for net in node.address_prefixes() if net.version == 4)
            made = Made(node, share=Share(barred=barred))
        self.replace(node.id, made)
        return made

    def _disco_key(self, node: Node) -> DiscoPublic:
        told = self.announced.get(node.id)
        if told is not None and told[0] == node.disco_key:
            return told[1]
        self.announced.pop(node.id, None)
        return node.disco_key

    def replace(self, node_id: NodeID, new: Made | None) -> None:
        """Remember what was made of a node; ``None`` forgets it."""
        known = self.made.get(node_id)
        self.routes.replace(
            known.share if known is not None else NOTHING, new.share if new is not None else NOTHING
        )
        if known is not None:
            self._note(known, -1)
        if new is not None:
            self._note(new, +1)
            self.made[node_id] = new
        elif known is not None:
            del self.made[node_id]
            self.announced.pop(node_id, None)

    def _note(self, made: Made, sign: int) -> None:
        self.offering += sign * made.offers
        self.planned += sign * (made.plan is not None)
        if made.node.is_jailed:
            (self.jailed.add if sign > 0 else self.jailed.discard)(made.node.id)

    def barred(self) -> list[IPNetwork]:
        """The destinations of peers in jail."""
        plans = (self.made[node_id].plan for node_id in sorted(self.jailed))
        return [net for plan in plans if plan is not None for net in plan.entry.allowed]
