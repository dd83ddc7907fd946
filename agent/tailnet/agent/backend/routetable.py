"""Every route that somebody in the tailnet offers, and what becomes of it; for people to read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from msgspec import structs

from tailnet.agent.addr import IPNetwork
from tailnet.agent.backend.acceptance import Acceptance, parse_acceptance
from tailnet.agent.backend.peerplan import can_be_talked_to
from tailnet.agent.backend.prefs import Prefs, parse_routes
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.tailcfg.node import Node, NodeID


class Verdict(StrEnum):
    """What becomes of a route."""

    ACCEPTED = "accepted"
    PART = "accepted in part"
    OFF = "not accepted"  # no routes are
    NOT_NAMED = "not named"  # others are
    TAKEN = "another peer has it"
    UNREACHABLE = "peer unreachable"
    EXIT = "exit node in use"
    EXIT_OFFER = "exit node offered"
    OWN = "advertised"
    STANDBY = "standby"
    UNAPPROVED = "not approved"


USED = frozenset({Verdict.ACCEPTED, Verdict.PART, Verdict.EXIT})


@dataclass(frozen=True, slots=True)
class RouteFact:
    """One route.

    Attributes:
        prefix: as it is offered.
        node: who offers it; the map's own node for what we advertise.
        verdict: what becomes of it.
        parts: what is used of it, if not all.
        other: the peer that has it, if this one does not.
        direct: this host's own networks inside of it, which stay as they are.
    """

    prefix: IPNetwork
    node: Node
    verdict: Verdict
    parts: tuple[IPNetwork, ...] = ()
    other: Node | None = None
    direct: tuple[IPNetwork, ...] = ()


def route_facts(
    prefs: Prefs,
    netmap: NetworkMap,
    links: Iterable[IPNetwork],
    exit_node: NodeID | None = None,
) -> tuple[RouteFact, ...]:
    """All of them: ours first, then by prefix.

    Args:
        prefs: validated.
        netmap: the current view.
        links: the prefixes of this host's links.
        exit_node: the one in use, which the plan chose.
    """
    view = _View(netmap, parse_acceptance(prefs.accept_routes or (), on=prefs.route_all), links)
    facts = list(_own(prefs, netmap))
    for node in netmap.peers.values():
        facts += [
            view.judge(node, prefix)
            if prefix.prefixlen
            else RouteFact(prefix, node, _exit(node, exit_node))
            for prefix in _offers(node)
        ]
    own = netmap.self_node.id
    return tuple(sorted(facts, key=lambda fact: (fact.node.id != own, *_order(fact))))


def with_acceptance(prefs: Prefs, text: str) -> Prefs:
    """The prefs with that setting of ``--accept-routes``; not validated."""
    if text in {"true", "false"}:
        return structs.replace(prefs, route_all=text == "true", accept_routes=None)
    items = tuple(item for part in text.split(",") if (item := part.strip()))
    return structs.replace(prefs, route_all=bool(items), accept_routes=items)


def _offers(node: Node) -> Iterator[IPNetwork]:
    own = node.address_prefixes()
    return (prefix for prefix in node.allowed_prefixes() if prefix not in own)


class _View:
    """What verdicts depend on."""

    def __init__(self, netmap: NetworkMap, accept: Acceptance, links: Iterable[IPNetwork]) -> None:
        self._self_key = netmap.self_node.key
        self._accept = accept
        self._links = frozenset(links)
        # of two peers that claim one prefix the last one has it
        self._holders = {
            part: node
            for node in netmap.peers.values()
            if can_be_talked_to(node, self._self_key)
            for part in accept.of(node, (p for p in _offers(node) if p.prefixlen))
        }

    def judge(self, node: Node, prefix: IPNetwork) -> RouteFact:
        """One route that is no default route."""
        parts = self._accept.of(node, (prefix,))
        if not parts:
            return RouteFact(prefix, node, Verdict.NOT_NAMED if self._accept.on else Verdict.OFF)
        if not can_be_talked_to(node, self._self_key):
            return RouteFact(prefix, node, Verdict.UNREACHABLE)
        mine = tuple(part for part in parts if self._holders[part] is node)
        if not mine:
            return RouteFact(prefix, node, Verdict.TAKEN, other=self._holders[parts[0]])
        inside = (link for link in self._links if any(_within(link, part) for part in mine))
        direct = tuple(sorted(inside, key=str))
        if mine == (prefix,):
            return RouteFact(prefix, node, Verdict.ACCEPTED, direct=direct)
        return RouteFact(prefix, node, Verdict.PART, mine, direct=direct)


def _exit(node: Node, exit_node: NodeID | None) -> Verdict:
    return Verdict.EXIT if node.id == exit_node else Verdict.EXIT_OFFER


def _own(prefs: Prefs, netmap: NetworkMap) -> Iterator[RouteFact]:
    """What we advertise: others use it, or another router has it for now, or nobody may."""
    me = netmap.self_node
    approved = frozenset(me.allowed_prefixes())
    for prefix in parse_routes(prefs.advertise_routes or ()):
        if prefix in approved:
            yield RouteFact(prefix, me, Verdict.OWN)
            continue
        peers = netmap.peers.values() if prefix.prefixlen else ()
        other = next((node for node in peers if prefix in _offers(node)), None)
        verdict = Verdict.UNAPPROVED if other is None else Verdict.STANDBY
        yield RouteFact(prefix, me, verdict, other=other)


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    same = inner.version == outer.version
    return same and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def _order(fact: RouteFact) -> tuple[int, int, int, NodeID]:
    prefix = fact.prefix
    return prefix.version, int(prefix.network_address), prefix.prefixlen, fact.node.id
