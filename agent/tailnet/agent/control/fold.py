"""Folding map messages into a network map.

One :class:`Folder` serves one map stream: a new stream starts from nothing, while the map of the
last one stays in use until the new one has its first message.

Source: tailscale control/controlclient/map.go, tailcfg/derpmap.go, ipn/ipnlocal/expiry.go.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TypeVar

from immutables import Map
from msgspec.structs import replace

from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.control.patch import apply_patch, keep_newer_disco
from tailnet.agent.errors import BadPacket
from tailnet.agent.slices import SLICE, Steps, finish, sliced
from tailnet.agent.tailcfg.codec import instant
from tailnet.agent.tailcfg.derpmap import DERPMap, HomeParams
from tailnet.agent.tailcfg.dns import DNSConfig
from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.mapping import DisplayMessage, MapResponse
from tailnet.agent.tailcfg.node import Node, NodeID, UserID, UserProfile

T = TypeVar("T")
Chunks = dict[str, tuple[FilterRule, ...]]  # the named parts of the packet filter

MAX_ID = 2**63 - 1
SANE_CLOCK = datetime.fromtimestamp(1673373066, UTC)  # expiry.go: before this nobody expires


@dataclass(frozen=True, slots=True)
class Change:
    """What one message did to the peers; see :class:`NetmapChanged`."""

    full: bool
    changed: frozenset[NodeID]
    removed: frozenset[NodeID]

    def after(self, full: bool, changed: frozenset[NodeID], removed: frozenset[NodeID]) -> "Change":
        """This one and an earlier one as a single change."""
        return Change(
            self.full or full,
            (changed - self.removed) | self.changed,
            (removed - self.changed) | self.removed,
        )


class Folder:
    """State of one map stream.  ``today`` is everywhere the date by the control server.

    Args:
        before: peers of the map in use, so that the first message can say who is gone; those that
            did not change stay the same objects.
    """

    def __init__(self, before: Mapping[NodeID, Node] = MappingProxyType({})) -> None:
        self._before = before
        self._self: Node | None = None
        self._peers: dict[NodeID, Node] = {}  # as control describes them
        self._shown: Map[NodeID, Node] = Map()  # with expiry applied
        self._exits: dict[NodeID, Node] = {}  # of those shown
        self._derp_map = DERPMap()
        self._dns = DNSConfig()
        self._chunks: Chunks | None = None
        self._filter: tuple[FilterRule, ...] | None = None
        self._profiles: dict[UserID, UserProfile] = {}
        self._domain = ""
        self._collect_services = False
        self._health: tuple[str, ...] = ()
        self._messages: dict[str, DisplayMessage] = {}
        self._own_expired = False
        self._next_expiry: datetime | None = None  # a lower bound: a peer may have gone since

    def fold(self, message: MapResponse, today: datetime) -> Change:
        """Apply one message that is not a keep-alive.

        Raises:
            BadPacket: the first message of a stream lacks our own node.
        """
        return finish(self.fold_slices(message, today))

    def fold_slices(self, message: MapResponse, today: datetime) -> Steps[Change]:
        """:meth:`fold` in slices.  Until it is finished :meth:`netmap` must not be asked."""
        first = self._self is None
        if first and message.node is None:
            msg = "the first map message lacks our own node"
            raise BadPacket(msg)
        if message.node is not None:
            self._self = _normalised_self(message.node)
            self._own_expired = self._has_own_expired(today)
            self._note_expiry(self._self, today)
        self._fold_parts(message)
        if message.peers:
            changed, removed = yield from self._replace_peers(message.peers)
        else:
            changed, removed = self._change_peers(message, today)
        if first:
            removed = {peer_id for peer_id in self._before if peer_id not in self._peers}
        yield from self._show(changed, removed, today)
        self._before = {}
        return Change(first or bool(message.peers), frozenset(changed), frozenset(removed))

    def expire(self, today: datetime) -> Change | None:
        """Mark what has expired by now; ``None`` if nothing has."""
        due = {
            peer_id
            for peer_id, peer in self._shown.items()
            if not peer.expired and _has_expired(peer, today)
        }
        finish(self._show(due, frozenset(), today))
        was, self._own_expired = self._own_expired, self._has_own_expired(today)
        self._next_expiry = None
        for node in (*self._shown.values(), *([self._self] if self._self else [])):
            self._note_expiry(node, today)
        if not due and was == self._own_expired:
            return None
        return Change(full=False, changed=frozenset(due), removed=frozenset())

    def next_expiry(self, today: datetime) -> float | None:
        """Seconds until :meth:`expire` may have something to do; ``None`` if never."""
        if self._next_expiry is None:
            return None
        return max(0.0, (self._next_expiry - today).total_seconds())

    def _note_expiry(self, node: Node, today: datetime) -> None:
        at = instant(node.key_expiry)
        if at is not None and at > today and not node.expired:
            self._next_expiry = min(at, self._next_expiry or at)

    def _has_own_expired(self, today: datetime) -> bool:
        return self._self is not None and _has_expired(self._self, today)

    def netmap(self, today: datetime) -> NetworkMap:
        """The map as it is now; later folding does not change what was returned.

        Raises:
            BadPacket: no message was folded yet.
        """
        if self._self is None:
            msg = "no map yet"
            raise BadPacket(msg)
        return NetworkMap(
            self_node=_expired_view(self._self, today, keep_paths=True),
            peers=self._shown,
            derp_map=self._derp_map,
            dns=self._dns,
            packet_filter=self._filter,
            user_profiles=MappingProxyType(self._profiles),
            domain=self._domain,
            health=() if self._messages else self._health,
            display_messages=MappingProxyType(self._messages),
            collect_services=self._collect_services,
            exits=self._exits,
        )

    def _fold_parts(self, message: MapResponse) -> None:
        if message.derp_map is not None:
            self._derp_map = inherit_derp_map(self._derp_map, message.derp_map)
        if message.dns_config is not None:
            self._dns = message.dns_config
        if message.domain:
            self._domain = message.domain
        if message.collect_services is not None:
            self._collect_services = message.collect_services
        if message.health is not None:
            self._health = message.health
        if message.user_profiles:
            self._profiles = self._profiles | {p.id: p for p in message.user_profiles}
        if message.display_messages is not None:
            self._messages = patch_map(self._messages, message.display_messages)
        chunks = self._chunks
        if message.packet_filter is not None:
            chunks = {**(chunks or {}), "base": message.packet_filter}
        if message.packet_filters is not None:
            chunks = patch_map(chunks or {}, message.packet_filters)
        if chunks is not None and chunks is not self._chunks:
            self._chunks = chunks
            ordered = sorted(chunks.items(), key=lambda chunk: chunk[0].encode())
            self._filter = tuple(rule for _, rules in ordered for rule in rules)

    def _replace_peers(self, peers: tuple[Node, ...]) -> Steps[tuple[set[NodeID], set[NodeID]]]:
        old, new = self._peers, dict[NodeID, Node]()
        for part in sliced(peers):
            for peer in part:
                if self._is_peer(peer.id):
                    current = keep_newer_disco(old.get(peer.id), peer)
                    known = old.get(peer.id) or self._before.get(peer.id)
                    new[peer.id] = known if known is not None and known == current else current
            if len(part) == SLICE:
                yield
        self._peers = new
        return set(new), set(old.keys() - new.keys())

    def _change_peers(
        self, message: MapResponse, today: datetime
    ) -> tuple[set[NodeID], set[NodeID]]:
        was: dict[NodeID, Node | None] = {}
        own = self._self.id if self._self else None
        for peer_id in (*(message.peers_removed or ()), own):
            if peer_id is not None and (gone := self._peers.pop(peer_id, None)) is not None:
                was[peer_id] = gone
        for peer in self._updated(message, today):
            was.setdefault(peer.id, self._peers.get(peer.id))
            self._peers[peer.id] = peer
        removed = {peer_id for peer_id in was if peer_id not in self._peers}
        changed = {i for i, old in was.items() if i not in removed and self._peers[i] != old}
        return changed, removed

    def _updated(self, message: MapResponse, today: datetime) -> Iterator[Node]:
        """New forms of peers, in the order of the rules; each sees the ones before it applied."""
        for peer in message.peers_changed or ():
            if self._is_peer(peer.id):
                yield peer
        for peer_id, seen in (message.peer_seen_change or {}).items():
            if (known := self._peers.get(peer_id)) is not None:
                yield replace(known, last_seen=today if seen else None)
        for peer_id, online in (message.online_change or {}).items():
            if (known := self._peers.get(peer_id)) is not None:
                yield replace(known, online=online)
        for patch in message.peers_changed_patch or ():
            if (known := self._peers.get(patch.node_id)) is not None:
                yield apply_patch(known, patch)

    def _is_peer(self, peer_id: NodeID) -> bool:
        return 0 < peer_id <= MAX_ID and (self._self is None or peer_id != self._self.id)

    def _show(
        self, changed: Collection[NodeID], removed: Collection[NodeID], today: datetime
    ) -> Steps[None]:
        shown, exits = self._shown.mutate(), dict(self._exits)
        for peer_id in removed:
            shown.pop(peer_id, None)
            exits.pop(peer_id, None)
        for part in sliced(tuple(changed)):
            for peer_id in part:
                peer = self._peers[peer_id]
                shown[peer_id] = view = _expired_view(peer, today, keep_paths=False)
                if view.offers_exit:
                    exits[peer_id] = view
                else:
                    exits.pop(peer_id, None)
                self._note_expiry(peer, today)
            if len(part) == SLICE:
                yield
        self._shown, self._exits = shown.finish(), exits


def inherit_derp_map(old: DERPMap, new: DERPMap) -> DERPMap:
    """``new``, with what it leaves out taken from ``old``; null regions do not exist."""
    regions, omit = new.regions, new.omit_default_regions
    if regions is None:
        regions, omit = old.regions, old.omit_default_regions
    params = new.home_params
    if params is None:
        params = old.home_params
    elif params.region_score is None and old.home_params is not None:
        params = HomeParams(region_score=old.home_params.region_score)
    if regions is not None:
        regions = {number: region for number, region in regions.items() if region is not None}
    return DERPMap(home_params=params, regions=regions, omit_default_regions=omit)


def patch_map(old: Mapping[str, T], patch: Mapping[str, T | None]) -> dict[str, T]:
    """Null deletes a key, ``"*": null`` deletes all first, everything else is set."""
    new = {} if "*" in patch else dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif key != "*":
            new[key] = value
    return new


def _normalised_self(node: Node) -> Node:
    legacy = dict.fromkeys(node.capabilities or ())
    return replace(node, cap_map=legacy | (node.cap_map or {})) if legacy else node


def _has_expired(node: Node, today: datetime) -> bool:
    at = instant(node.key_expiry)
    return at is not None and at <= today and today >= SANE_CLOCK


def _expired_view(node: Node, today: datetime, *, keep_paths: bool) -> Node:
    """``node``, marked if its key has run out; a peer then loses its paths too."""
    if node.expired or not _has_expired(node, today):
        return node
    if keep_paths:
        return replace(node, expired=True)
    return replace(node, expired=True, endpoints=None, home_derp=0, derp="")
