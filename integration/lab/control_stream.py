"""What one node has been sent, and the message that brings it up to date."""

from typing import Any

from integration.lab.control_store import LAB_USER, TAGGED_USER, Store
from msgspec import structs

from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.mapping import Debug, MapResponse
from tailnet.agent.tailcfg.node import Node, NodeID, PeerChange

PATCHABLE = {
    "home_derp": "derp_region",
    "cap": "cap",
    "endpoints": "endpoints",
    "key": "key",
    "disco_key": "disco_key",
    "online": "online",
    "last_seen": "last_seen",
    "key_expiry": "key_expiry",
}
IMPLIED = {"derp"}  # fields that follow from another


class Audience:
    """One streaming poll: deltas are against what *this* node was sent."""

    def __init__(self, store: Store, node_id: int) -> None:
        self._store = store
        self._id = node_id
        self._sent: dict[int, Node] = {}
        self._filter: tuple[FilterRule, ...] = ()

    def full(self) -> MapResponse:
        """The first message."""
        settings = self._store.settings
        self._sent = self._visible()
        self._filter = settings.packet_filter
        return MapResponse(
            node=self._sent[self._id],
            peers=tuple(n for i, n in sorted(self._sent.items()) if i != self._id),
            derp_map=settings.derp_map,
            dns_config=structs.replace(
                settings.dns,
                proxied=True,
                domains=(settings.domain, *(settings.dns.domains or ())),
                routes={settings.domain: (), **(settings.dns.routes or {})},
            ),
            packet_filter=self._filter,
            user_profiles=(LAB_USER, TAGGED_USER),
            domain=settings.domain,
            collect_services=settings.collect_services,
            control_time=self._store.wall(),
            debug=Debug(disable_log_tail=True),
        )

    def _visible(self) -> dict[int, Node]:
        """What this node may know of: itself, and once it is approved the approved ones."""
        nodes = self._store.view.nodes()
        if (own := nodes.get(self._id)) is not None and not own.machine_authorized:
            return {self._id: own}
        return {i: node for i, node in nodes.items() if node.machine_authorized}

    def delta(self) -> MapResponse | None:
        """What changed since the last message, or ``None``."""
        now = self._visible()
        old, self._sent = self._sent, now
        changed: list[Node] = []
        patches: list[PeerChange] = []
        online: dict[NodeID, bool] = {}
        for node_id, node in now.items():
            before = old.get(node_id)
            if before is node or node_id == self._id:
                continue
            fields = _changes(before, node)
            if fields is None:
                changed.append(node)
            elif set(fields) == {"online"}:
                online[node.id] = bool(node.online)
            elif fields:
                patches.append(PeerChange(node_id=node.id, **fields))
        own = now.get(self._id)
        rules = self._store.settings.packet_filter
        message = MapResponse(
            node=own if own is not old.get(self._id) else None,
            packet_filter=rules if rules != self._filter else None,
            peers_removed=tuple(NodeID(i) for i in sorted(old.keys() - now.keys())) or None,
            peers_changed=tuple(sorted(changed, key=lambda n: n.id)) or None,
            peers_changed_patch=tuple(patches) or None,
            online_change=online or None,
        )
        self._filter = rules
        if message == MapResponse():
            return None
        return structs.replace(message, control_time=self._store.wall())


def _changes(old: Node | None, new: Node) -> dict[str, Any] | None:
    """Fields of a patch, or ``None`` where a patch cannot say it."""
    if old is None:
        return None
    out: dict[str, Any] = {}
    for name in new.__struct_fields__:
        value = getattr(new, name)
        if value == getattr(old, name) or name in IMPLIED:
            continue
        if name == "last_seen" and value is None:
            continue  # it is online, and nobody looks
        if name not in PATCHABLE or value is None or value == 0:
            return None
        out[PATCHABLE[name]] = value
    return out
