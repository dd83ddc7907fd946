"""What the lab's control server knows: nodes, keys, addresses, names.  No sockets, no clock.

Rules of registration as Headscale and tailscale's testcontrol have them: a node key belongs to
one machine; a past expiry is a logout, before anything else; an auth key is not used up by the
machine that used it; a machine that comes with a new key keeps its record.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

import msgspec
from integration.lab.control_nodes import Record, View

from tailnet.agent.keys import MachinePrivate, MachinePublic, NodePublic
from tailnet.agent.tailcfg.codec import decode_untrusted, encode, instant
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.dns import DNSConfig
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange
from tailnet.agent.tailcfg.mapping import MapRequest
from tailnet.agent.tailcfg.node import ZERO_DISCO, Hostinfo, UserID, UserProfile
from tailnet.agent.tailcfg.register import Login, RegisterRequest, RegisterResponse, User

ALLOW_ALL = (
    FilterRule(
        src_ips=("*",), dst_ports=(NetPortRange(ip="*", ports=PortRange(first=0, last=65535)),)
    ),
)
LAB_USER = UserProfile(id=UserID(1), login_name="lab@example.com", display_name="Lab")
TAGGED_USER = UserProfile(  # the number Headscale uses
    id=UserID(2147455555), login_name="tagged-devices", display_name="Tagged Devices"
)
FIRST_V4 = IPv4Address("100.64.0.1")
V6_BASE = int(IPv6Address("fd7a:115c:a1e0:ab12:4843:cd96:6200:0"))


@dataclass
class AuthKey:
    """What an auth key is good for."""

    reusable: bool = True
    ephemeral: bool = False
    tags: tuple[str, ...] = ()
    expired: bool = False


NO_NAMES = DNSConfig()


@dataclass
class ControlSettings:
    """Configuration of a control server.

    Attributes:
        key_ttl: seconds until node keys expire; ``None``: never.
        offline_grace: seconds between the end of a stream and "offline".
        ephemeral_grace: seconds between the end of a stream and the end of an ephemeral node.
        approval: a person must approve each new node.
        dns: what nodes are told of names besides their own domain.
        resume: a stream may go on with the session of the one before.
        collect_services: nodes tell who listens on their machines.
    """

    server_key: MachinePrivate
    auth_keys: dict[str, AuthKey]
    derp_map: DERPMap
    domain: str = "lab.ts.net"
    packet_filter: tuple[FilterRule, ...] = ALLOW_ALL
    key_ttl: float | None = None
    offline_grace: float = 2.0
    ephemeral_grace: float = 30.0
    approval: bool = False
    dns: DNSConfig = NO_NAMES
    resume: bool = False
    collect_services: bool = False


class Saved(msgspec.Struct):
    """What outlives a restart."""

    records: list[Record]
    last_id: int
    used_keys: dict[str, str]  # one-shot auth key: machine key


@dataclass
class Store:
    """All state but the open connections.

    Attributes:
        logins: follow-up id of an interactive login: has it been approved?
        asked: follow-up id by node key, so that the same question gets the same URL.
    """

    settings: ControlSettings
    wall: Callable[[], datetime]
    random_bytes: Callable[[int], bytes]
    records: dict[int, Record] = field(default_factory=dict)
    logins: dict[str, bool] = field(default_factory=dict)
    asked: dict[NodePublic, str] = field(default_factory=dict)
    _last_id: int = 0
    _used_keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.view = View(self.records, self.settings.domain)

    def by_key(self, key: NodePublic) -> Record | None:
        """The node with this node key."""
        return next((r for r in self.records.values() if r.key == key), None)

    def register(
        self, request: RegisterRequest, machine: MachinePublic, login_base: str
    ) -> RegisterResponse:
        """Answer one registration; an ``auth_url`` below ``login_base`` asks for a person."""
        record = self.by_key(request.node_key)
        if record is not None and record.machine != machine:
            return RegisterResponse(error="this node key belongs to another machine")
        if (expiry := instant(request.expiry)) is not None and expiry <= self.wall():
            return self._logout(record)
        if record is not None and self._has_expired(record):
            return RegisterResponse(node_key_expired=True)
        if record is None:
            auth = request.auth.auth_key if request.auth else ""
            if not auth:
                return self._interactive(request, machine, login_base)
            key = self.settings.auth_keys.get(auth)
            if (error := self._refuse_key(auth, key, machine)) or key is None:
                return RegisterResponse(error=error)
            record = self._admit(request, machine, key)
        elif expiry is not None:
            if record.key_expiry is None or expiry < record.key_expiry:
                record.key_expiry = expiry
            else:
                return RegisterResponse(error="a key's life cannot be made longer")
        record.hostinfo = _keep_net_info(request.hostinfo, record.hostinfo)
        record.name = self._free_name(request.hostinfo.hostname, record)
        self.view.touch(record.id)
        return _accepted(record)

    def update(self, record: Record, request: MapRequest) -> None:
        """Store what a node says of itself."""
        record.hostinfo = _keep_net_info(request.hostinfo, record.hostinfo)
        record.disco_key = request.disco_key
        endpoints = [e for e in request.endpoints or () if "%" not in e and "fe80" not in e]
        if set(endpoints) != set(record.endpoints):
            record.endpoints = endpoints
        record.cap = request.version
        if request.hostinfo.net_info and request.hostinfo.net_info.preferred_derp:
            record.home = request.hostinfo.net_info.preferred_derp
        record.name = self._free_name(request.hostinfo.hostname, record)
        self.view.touch(record.id)

    def set_online(self, record: Record, online: bool) -> None:
        """A stream began, or none is left."""
        if record.online and not online:
            record.last_seen = self.wall()
        record.online = online
        self.view.touch(record.id)

    def expire(self, record: Record, left: float = 0.0) -> None:
        """End the life of a node's key now, or ``left`` seconds later."""
        record.key_expiry = self.wall() + timedelta(seconds=left)
        self.view.touch(record.id)

    def authorize(self, record: Record) -> None:
        """Approve a node."""
        record.authorized = True
        self.view.touch(record.id)

    def set_attributes(self, record: Record, attributes: tuple[str, ...]) -> None:
        """What control says of a node, as node attributes without values."""
        record.attributes = attributes
        self.view.touch(record.id)

    def known_as(self, record: Record, addresses: list[str]) -> None:
        """The peer knows others by these, one of IPv4 and one of IPv6."""
        record.known_as = addresses
        self.view.touch(record.id)

    def add_wireguard(
        self, name: str, key: NodePublic, endpoints: list[str], routes: list[str]
    ) -> Record:
        """A peer that speaks plain WireGuard and never comes here; ``routes`` lead through it."""
        hostinfo = Hostinfo(hostname=name, routable_ips=tuple(routes))
        request = RegisterRequest(version=0, node_key=key, hostinfo=hostinfo)
        record = self._admit(request, MachinePublic(key.raw), AuthKey())
        record.endpoints, record.wireguard_only, record.online = endpoints, True, True
        self.view.touch(record.id)
        return record

    def delete(self, record: Record) -> None:
        """Forget a node."""
        del self.records[record.id]
        self.view.touch(record.id)

    def forget_logins(self) -> None:
        """Lose all logins that are under way."""
        self.logins.clear()
        self.asked.clear()

    def snapshot(self) -> bytes:
        """All that outlives a restart, as JSON."""
        return encode(Saved(list(self.records.values()), self._last_id, self._used_keys))

    def restore(self, data: bytes) -> None:
        """Inverse of :meth:`snapshot`; everybody is offline until they come back."""
        saved = decode_untrusted(data, Saved)
        self.records.clear()
        for record in saved.records:
            record.online = False
            self.records[record.id] = record
        self._last_id, self._used_keys = saved.last_id, saved.used_keys
        self.view = View(self.records, self.settings.domain)

    def _logout(self, record: Record | None) -> RegisterResponse:
        if record is not None:
            if record.ephemeral:
                self.delete(record)
            else:
                self.expire(record)
        return RegisterResponse(node_key_expired=True)

    def _has_expired(self, record: Record) -> bool:
        return record.key_expiry is not None and record.key_expiry <= self.wall()

    def _refuse_key(self, auth: str, key: AuthKey | None, machine: MachinePublic) -> str:
        """Why a key cannot be used; empty if it can."""
        if key is None:
            return "invalid auth key"
        if key.expired:
            return "authkey expired"
        if not key.reusable and self._used_keys.setdefault(auth, str(machine)) != str(machine):
            return "authkey already used"
        return ""

    def _interactive(
        self, request: RegisterRequest, machine: MachinePublic, login_base: str
    ) -> RegisterResponse:
        login = self.asked.get(request.node_key, "")
        if self.logins.get(login):
            del self.logins[login], self.asked[request.node_key]
            return _accepted(self._admit(request, machine, AuthKey()))
        if login not in self.logins:
            login = self.asked[request.node_key] = self.random_bytes(8).hex()
            self.logins[login] = False
        return RegisterResponse(auth_url=f"{login_base}/login/{login}")

    def _admit(self, request: RegisterRequest, machine: MachinePublic, key: AuthKey) -> Record:
        ttl = self.settings.key_ttl
        expiry = None if ttl is None or key.tags else self.wall() + timedelta(seconds=ttl)
        for record in self.records.values():
            if record.machine == machine and record.tags == key.tags:
                record.key, record.key_expiry = request.node_key, expiry
                self.view.touch(record.id)
                return record
        self._last_id += 1
        v4 = self._free_address()
        record = Record(
            id=self._last_id,
            machine=machine,
            key=request.node_key,
            disco_key=ZERO_DISCO,
            user=(TAGGED_USER if key.tags else LAB_USER).id,
            tags=key.tags,
            addresses=(str(v4), str(IPv6Address(V6_BASE + (int(v4) & 0xFFFFFF)))),
            created=self.wall(),
            key_expiry=expiry,
            ephemeral=key.ephemeral or request.ephemeral,
            authorized=not self.settings.approval,
        )
        record.name = self._free_name(request.hostinfo.hostname, record)
        record.hostinfo = request.hostinfo
        self.records[record.id] = record
        self.view.touch(record.id)
        return record

    def _free_address(self) -> IPv4Address:
        taken = {r.addresses[0] for r in self.records.values()}
        address = FIRST_V4
        while str(address) in taken or address.packed[3] in {0, 255}:
            address += 1
        return address

    def _free_name(self, hostname: str, record: Record) -> str:
        base = re.sub(r"\.(local|lan|localdomain)$", "", hostname.lower())
        base = re.sub(r"[^a-z0-9-]+", "-", base).strip("-")[:60].strip("-") or "node"
        if re.fullmatch(rf"{base}(-\d+)?", record.name):
            return record.name
        taken = {r.name for r in self.records.values()}
        names = [base, *(f"{base}-{n}" for n in range(1, len(taken) + 2))]
        return next(name for name in names if name not in taken)


def _accepted(record: Record) -> RegisterResponse:
    user = TAGGED_USER if record.tags else LAB_USER
    return RegisterResponse(
        user=User(id=user.id, display_name=user.display_name),
        login=Login(
            id=user.id,
            provider="lab",
            login_name=user.login_name,
            display_name=user.display_name,
        ),
        machine_authorized=record.authorized,
    )


def _keep_net_info(new: Hostinfo, old: Hostinfo) -> Hostinfo:
    """A request without NetInfo does not erase what an earlier one said."""
    return new if new.net_info else msgspec.structs.replace(new, net_info=old.net_info)
