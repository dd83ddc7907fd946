"""Nodes of the lab's control server, and how others see them."""

from collections.abc import Iterator
from datetime import datetime

import msgspec

from tailnet.agent.keys import DiscoPublic, MachinePublic, NodePublic
from tailnet.agent.tailcfg.codec import prefixes
from tailnet.agent.tailcfg.node import Hostinfo, Node, NodeID, StableNodeID, UserID


class Record(msgspec.Struct):
    """One node, as it is stored.  ``name`` is its first label; addresses are IPv4, IPv6."""

    id: int
    machine: MachinePublic
    key: NodePublic
    disco_key: DiscoPublic
    user: UserID
    tags: tuple[str, ...]
    addresses: tuple[str, str]
    created: datetime
    key_expiry: datetime | None
    ephemeral: bool
    name: str = ""
    hostinfo: Hostinfo = Hostinfo()
    endpoints: list[str] = msgspec.field(default_factory=list)
    home: int = 0
    cap: int = 0
    authorized: bool = True
    online: bool = False
    last_seen: datetime | None = None
    wireguard_only: bool = False
    attributes: tuple[str, ...] = ()
    known_as: list[str] = msgspec.field(default_factory=lambda: ["", ""])


class View:
    """Nodes as they go over the wire.  A node that did not change stays the same object."""

    def __init__(self, records: dict[int, Record], domain: str) -> None:
        self._records = records
        self._domain = domain
        self._nodes: dict[int, Node] = {}
        self._dirty: set[int] = set(records)
        self._routers: dict[str, int] = {}

    def touch(self, node_id: int) -> None:
        """A record changed."""
        self._dirty.add(node_id)

    def nodes(self) -> dict[int, Node]:
        """All of them, up to date; do not change it."""
        if self._dirty:
            routers = dict(self._elect())
            changed = dict(routers.items() ^ self._routers.items())
            before = [self._routers.get(route, 0) for route in changed]
            self._dirty |= {*before, *(routers.get(route, 0) for route in changed)}
            self._routers = routers
            for node_id in self._dirty:
                record = self._records.get(node_id)
                if record is None:
                    self._nodes.pop(node_id, None)
                elif (node := self._render(record)) != self._nodes.get(node_id):
                    self._nodes[node_id] = node
            self._dirty = set()
        return self._nodes

    def _elect(self) -> Iterator[tuple[str, int]]:
        """The router of each subnet route: the first one online, else the first."""
        candidates = sorted(self._records.values(), key=lambda r: (r.online, -r.id))
        for record in candidates:
            for route in prefixes(record.hostinfo.routable_ips):
                if route.prefixlen:
                    yield str(route), record.id

    def _render(self, record: Record) -> Node:
        own = tuple(f"{a}/{128 if ':' in a else 32}" for a in record.addresses)
        wanted = prefixes(record.hostinfo.routable_ips)
        primary = tuple(str(p) for p in wanted if self._routers.get(str(p)) == record.id)
        exits = tuple(str(p) for p in wanted if not p.prefixlen)
        return Node(
            id=NodeID(record.id),
            stable_id=StableNodeID(f"n{record.id}LAB"),
            name=f"{record.name}.{self._domain}.",
            user=record.user,
            key=record.key,
            key_expiry=record.key_expiry,
            machine=record.machine,
            disco_key=record.disco_key,
            addresses=own,
            allowed_ips=(*own, *primary, *exits),
            primary_routes=primary or None,
            endpoints=tuple(record.endpoints),
            home_derp=record.home,
            derp=f"127.3.3.40:{record.home}" if record.home else "",
            hostinfo=Hostinfo(
                os=record.hostinfo.os,
                hostname=record.hostinfo.hostname,
                services=record.hostinfo.services,
            ),
            created=record.created,
            cap=record.cap,
            tags=record.tags or None,
            last_seen=None if record.online else record.last_seen,
            online=record.online,
            machine_authorized=record.authorized,
            is_wire_guard_only=record.wireguard_only,
            self_node_v4_masq_addr_for_this_peer=record.known_as[0],
            self_node_v6_masq_addr_for_this_peer=record.known_as[1],
            cap_map=dict.fromkeys(record.attributes, ()) or None,
        )
