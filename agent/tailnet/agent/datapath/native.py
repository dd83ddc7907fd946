"""The datapath in Rust, with threads of its own; the crate is ``agent/native``.

It is optional: :func:`load` says why it is not there.  This module only translates.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from itertools import chain
from typing import TYPE_CHECKING, Any

from tailnet.agent.addr import AddrPort, IPAddress, IPNetwork, ViaAddr
from tailnet.agent.datapath.interface import (
    UPCALL_LIMIT,
    About,
    Activity,
    Carried,
    Confirmed,
    Disco,
    Failed,
    Handshake,
    NewSource,
    NoSession,
    Path,
    PathFailed,
    PeerEntry,
    RelayOut,
    Session,
    Stun,
    ToAgent,
    TunPort,
    UdpPort,
    Upcall,
    Wake,
    Woke,
)
from tailnet.agent.errors import UserError
from tailnet.agent.filter.rules import Filter, Match
from tailnet.agent.keys import NodePublic, PeerId
from tailnet.agent.wireguard.session import IDLE

if TYPE_CHECKING:
    import tailnet_native

INTERFACE = 13  # of the extension that this module can use

_AF_INET6 = 10  # Linux
_SIZES = {4: 4, 6: 16}  # bytes of an address

# Upcalls whose fields are as here, and those with a source in front.
_PLAIN: dict[str, Callable[..., Upcall]] = {
    "NoSession": NoSession,
    "RelayOut": RelayOut,
    "Confirmed": Confirmed,
    "ToAgent": ToAgent,
    "Failed": Failed,
}
_FROM_NETWORK: dict[str, Callable[[AddrPort | ViaAddr, bytes], Upcall]] = {
    "Handshake": Handshake,
    "Disco": Disco,
}


class AeadChoice(StrEnum):
    """Values of ``--datapath-aead``."""

    AUTO = "auto"
    RING = "ring"
    IPSEC_MB = "ipsec-mb"


def why_not(aead: AeadChoice = AeadChoice.AUTO) -> str:
    """Why the extension cannot be used, or not with this cipher; empty if it can."""
    try:
        module = importlib.import_module("tailnet_native")
    except ModuleNotFoundError:
        return "tailnet_native is not installed"
    except ImportError as error:
        return f"tailnet_native does not load: {error}"
    found = module.INTERFACE
    if found != INTERFACE:
        return f"tailnet_native has interface {found}, this daemon needs {INTERFACE}"
    try:
        module.choose_aead(aead)
    except ValueError as error:
        return str(error)
    return ""


def _load(aead: AeadChoice) -> Any:  # noqa: ANN401 -- a module that may not exist
    if reason := why_not(aead):
        msg = f"no native datapath: {reason}"
        raise UserError(msg)
    return importlib.import_module("tailnet_native")


class NativeDatapath:
    """The :class:`~tailnet.agent.datapath.interface.Datapath` in Rust.

    Args:
        upcall_limit: upcalls that wait for the slow path.
        manual_clock: time stands still but for :meth:`set_clock`; for tests.

        aead: what seals and opens.

    Raises:
        UserError: the extension is not there, is not the right one, or has not this cipher.
    """

    threaded = True

    def __init__(
        self,
        *,
        upcall_limit: int = UPCALL_LIMIT,
        manual_clock: bool = False,
        aead: AeadChoice = AeadChoice.AUTO,
    ) -> None:
        module = _load(aead)
        self._native: tailnet_native.Datapath = module.Datapath(upcall_limit, manual_clock, aead)
        self.about = About("native", module.VERSION, self._native.aead)

    def set_clock(self, now: float) -> None:
        """Move a manual clock."""
        self._native.set_clock(now)

    # life

    def start(self, tun: TunPort, udp: Sequence[UdpPort]) -> None:
        """Take the descriptors and begin.  Once per object."""
        self._native.start((tun.queues, *tun[1:5]), _ports(udp))

    def set_service(self, fd: int) -> None:
        """Give the services of the daemon their packets.  Before the start."""
        self._native.set_service(fd)

    def set_sites(self, fd: int | None) -> None:
        """Give a stack what peers send to sites, from now on; ``None``: the host."""
        self._native.set_sites(fd)

    def set_tap(self, fd: int | None) -> None:
        """Copy every packet to a packet socket from now on; ``None``: no more."""
        self._native.set_tap(fd)

    def set_udp(self, udp: Sequence[UdpPort]) -> None:
        """Replace the sockets after a rebind; the old ones are closed."""
        self._native.set_udp(_ports(udp))

    def stop(self) -> None:
        """Stop and close everything taken.  Idempotent."""
        self._native.stop()

    def event_fd(self) -> int:
        """Readable while upcalls wait; valid until the object is dropped."""
        return self._native.event_fd()

    def take_upcalls(self, limit: int) -> list[Upcall]:
        """At most ``limit`` upcalls, oldest first."""
        return [_upcall(*fields) for fields in self._native.take_upcalls(limit)]

    # tables

    def set_peers(self, peers: Mapping[PeerId, PeerEntry]) -> None:
        """All peers.  Longest prefix wins; a gone peer loses sessions, path, queue and counters."""
        self._native.set_peers([(peer, _entry(new)) for peer, new in peers.items()])

    def change_peers(self, changed: Mapping[PeerId, PeerEntry | None]) -> None:
        """As ``set_peers`` with the peers of before, these changed; ``None`` removes one."""
        self._native.change_peers([(peer, new and _entry(new)) for peer, new in changed.items()])

    def set_local(self, prefixes: Sequence[IPNetwork]) -> None:
        """Destinations that inbound packets may have: own addresses and advertised routes."""
        self._native.set_local(_prefixes(prefixes))

    def set_filter(self, packet_filter: Filter) -> None:
        """Rules for inbound packets.  Flow state is kept.  Before the first call nothing enters."""
        self._native.set_filter(
            _family(packet_filter.v4, _SIZES[4]) + _family(packet_filter.v6, _SIZES[6]),
            packet_filter.closed,
        )

    def set_public_key(self, public: NodePublic) -> None:
        """Our own key, by which handshake messages for others are told."""
        self._native.set_public_key(public.raw)

    def set_path(self, peer: PeerId, path: Path) -> None:
        """Where to send from now on."""
        addr, vni = path.udp, 0
        if isinstance(addr, ViaAddr):
            addr, vni = addr
        ip, port = (None, 0) if addr is None else (addr.ip.packed, addr.port)
        self._native.set_path(peer, ip, port, vni, path.relay)

    # sessions

    def set_session(self, peer: PeerId, session: Session) -> None:
        """Add a session; an initiator's flushes the peer's queue (or sends a keepalive)."""
        self._native.set_session(peer, *session)

    def drop_session(self, local_index: int) -> None:
        """Forget one session, in whichever slot it is."""
        self._native.drop_session(local_index)

    def discard_queue(self, peer: PeerId) -> None:
        """The handshake was given up: drop what waits."""
        self._native.discard_queue(peer)

    def send_keepalive(self, peer: PeerId) -> None:
        """Send an empty packet on the current session, if there is one."""
        self._native.send_keepalive(peer)

    def set_wake(self, peer: PeerId, wake: Wake) -> None:
        """Ask for one :class:`Woke` at the next such packet; asks add up until they fire."""
        self._native.set_wake(peer, wake.value)

    # packets of the slow path

    def send_udp(self, dst: AddrPort, datagrams: Sequence[bytes]) -> int:
        """Send disco, STUN or handshakes as they are.  Returns 0 or an errno; never raises."""
        return self._native.send_udp(dst.ip.packed, dst.port, datagrams)

    def relay_in(self, datagrams: Sequence[bytes]) -> None:
        """Sealed transport messages that came through a relay."""
        self._native.relay_in(datagrams)

    def send_plain(self, peer: PeerId, packets: Sequence[bytes]) -> None:
        """Packets made by the daemon, to a peer: no filter verdict, but flow state is noted."""
        self._native.send_plain(peer, packets)

    # what happened

    def activity(self, peer: PeerId) -> Activity:
        """Times and counters of one peer; all zero for an unknown one."""
        fields = self._native.activity(peer)
        return IDLE if fields is None else Activity(*fields)

    def drops(self) -> dict[str, int]:
        """Packets dropped, by reason (a fixed set of names, all present)."""
        return dict(self._native.drops())

    def traffic(self) -> dict[str, Carried]:
        """What was carried since the start, by kind of path (a fixed set, all present)."""
        return {name: Carried(*counts) for name, *counts in self._native.traffic()}


def _ports(udp: Sequence[UdpPort]) -> list[tuple[int, bool, bool, bool]]:
    return [(port.fd, port.family == _AF_INET6, port.gso, port.sentinel) for port in udp]


def _entry(entry: PeerEntry) -> tuple[bytes, bytes]:
    if not entry.masquerade:
        return _prefixes(entry.allowed), b""
    known = b"".join(map(_address, chain.from_iterable(entry.masquerade)))
    return _prefixes(entry.allowed), known


def _address(address: IPAddress) -> bytes:
    return bytes((address.version, address.max_prefixlen)) + int(address).to_bytes(16, "big")


_V4 = [bytes((4, length)) + bytes(12) for length in range(33)]
_V6 = [bytes((6, length)) for length in range(129)]


def _prefixes(prefixes: Iterable[IPNetwork]) -> bytes:
    """Version, length, address in 16 bytes; of a large network there are 20,000."""
    return b"".join(
        [
            (_V4 if isinstance(prefix, IPv4Network) else _V6)[prefix.prefixlen]
            + prefix.network_address.packed
            for prefix in prefixes
        ]
    )


def _family(matches: Sequence[Match], size: int) -> bytes:
    """Rules of one family, as the extension's rules.rs describes them."""
    out = bytearray(len(matches).to_bytes(4, "big"))
    for match in matches:
        bits = sum(1 << proto for proto in match.protos)
        out += bits.to_bytes(32, "little")
        out += len(match.sources).to_bytes(4, "big") + len(match.destinations).to_bytes(4, "big")
        for first, last in match.sources:
            out += first.to_bytes(size, "big") + last.to_bytes(size, "big")
        for to in match.destinations:
            out += to.first.to_bytes(size, "big") + to.last.to_bytes(size, "big")
            out += to.first_port.to_bytes(2, "big") + to.last_port.to_bytes(2, "big")
    return bytes(out)


def _addr(packed: bytes, port: int) -> AddrPort:
    return AddrPort(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed), port)


def _way(packed: bytes, port: int, vni: int) -> AddrPort | ViaAddr:
    addr = _addr(packed, port)
    return ViaAddr(addr, vni) if vni else addr


def _upcall(kind: str, *fields: Any) -> Upcall:  # noqa: ANN401 -- as the extension makes them
    if (plain := _PLAIN.get(kind)) is not None:
        return plain(*fields)
    if (from_network := _FROM_NETWORK.get(kind)) is not None:
        return from_network(_way(*fields[0]), fields[1])
    peer, *rest = fields
    match kind:
        case "Stun":
            return Stun(_addr(*fields[0]), fields[1])
        case "Woke":
            return Woke(peer, Wake(rest[0]))
        case "NewSource":
            return NewSource(peer, _addr(*rest[0]))
        case _:
            return PathFailed(peer, _way(*rest[0]), rest[1])
