"""A datapath with a TUN device and a network made of sockets."""

import asyncio
import shutil
import socket
import sys
from collections.abc import Callable, Iterable
from ipaddress import ip_network
from struct import Struct
from typing import TypeVar

import pytest

from tailnet.agent.addr import AddrPort
from tailnet.agent.crypto.aead import Aead
from tailnet.agent.datapath.interface import (
    Datapath,
    Path,
    PeerEntry,
    Session,
    TunPort,
    UdpPort,
    Upcall,
)
from tailnet.agent.datapath.native import AeadChoice, NativeDatapath, why_not
from tailnet.agent.datapath.reference.aio import ReferenceDatapath
from tailnet.agent.filter.rules import Filter, compile_filter
from tailnet.agent.keys import PeerId
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange

PEER = PeerId(1)
ME, THEM, STRANGER = "100.64.0.1", "100.64.0.2", "100.64.0.3"
MTU = 1280
UDP_SEGMENT, UDP_GRO = 103, 104

_header = Struct("<IIQ")
_nonce = Struct("<4xQ").pack

U = TypeVar("U")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._listeners: list[Callable[[float], None]] = []

    def __call__(self) -> float:
        """The time [s]."""
        return self._now

    def tell(self, listener: Callable[[float], None]) -> None:
        """Call ``listener`` now and at each change."""
        self._listeners.append(listener)
        listener(self._now)

    @property
    def now(self) -> float:
        """The time [s]."""
        return self._now

    @now.setter
    def now(self, now: float) -> None:
        self._now = now
        for listener in self._listeners:
            listener(now)


MakeDatapath = Callable[[Clock], Datapath]


def make_reference(clock: Clock, upcall_limit: int = 20) -> Datapath:
    """The pure Python one."""
    return ReferenceDatapath(now=clock, upcall_limit=upcall_limit)


def make_native(clock: Clock, upcall_limit: int = 20) -> Datapath:
    """The one in Rust; skips the test where that is not built (with cargo it must be)."""
    if reason := why_not():
        if shutil.which("cargo"):
            pytest.fail(f"cargo is here, but {reason}: run 'make native'")
        pytest.skip(reason)
    return _native(clock, upcall_limit, AeadChoice.RING)


def make_native_wide(clock: Clock, upcall_limit: int = 20) -> Datapath:
    """The one in Rust with the cipher of another library; skips the test where there is none."""
    if reason := why_not(AeadChoice.IPSEC_MB):
        pytest.skip(reason)
    return _native(clock, upcall_limit, AeadChoice.IPSEC_MB)


def _native(clock: Clock, upcall_limit: int, aead: AeadChoice) -> Datapath:
    datapath = NativeDatapath(upcall_limit=upcall_limit, manual_clock=True, aead=aead)
    clock.tell(datapath.set_clock)
    return datapath


def allow_all() -> Filter:
    """Rules that let everything in."""
    ports = NetPortRange(ip="*", ports=PortRange(0, 65535))
    return compile_filter([FilterRule(src_ips=("*",), dst_ports=(ports,))])


def udp_socket(*, gro: bool = False, family: int = socket.AF_INET) -> socket.socket:
    """A non-blocking socket on loopback."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, gro)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    return sock


class Rig:
    """One datapath, and the test on its three sides: host, network, slow path.

    The network is one remote WireGuard peer, played by hand.
    """

    def __init__(
        self,
        make: MakeDatapath,
        *,
        vnet_hdr: bool = False,
        tso: bool = True,
        sentinel: bool = False,
        gro: bool = False,
        service: bool = False,
        sites: bool = False,
        queues: int = 1,
    ) -> None:
        self.clock = Clock()
        self.vnet = vnet_hdr
        self.datapath = make(self.clock)
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(queues)]
        self.hosts = [ours for ours, _ in pairs]
        self.host = self.hosts[0]
        for ours in self.hosts:
            ours.setblocking(False)
        fd, *more = (theirs.detach() for _, theirs in pairs)
        udp = udp_socket(gro=gro)
        self.udp_addr: tuple[str, int] = udp.getsockname()
        self.remote = udp_socket()
        self.remote_addr = AddrPort.of(*self.remote.getsockname())
        dp = self.datapath
        dp.set_peers({PEER: PeerEntry((ip_network(THEM),))})
        dp.set_local([ip_network(ME)])
        dp.set_filter(allow_all())
        dp.set_path(PEER, Path(self.remote_addr, relay=False))
        self.service: socket.socket | None = None
        if service:
            self.service, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.service.setblocking(False)
            dp.set_service(end.detach())
        self.sites: socket.socket | None = None
        if sites:
            self.serve_sites()
        dp.start(
            TunPort(fd, MTU, vnet_hdr, vnet_hdr and tso, tso, tuple(more)),
            [UdpPort(udp.detach(), socket.AF_INET, gso=True, gro=gro, sentinel=sentinel)],
        )
        self._sent = 0

    def close(self) -> None:
        """Stop and close both sides."""
        self.datapath.stop()
        for host in self.hosts:
            host.close()
        for beside in (self.service, self.sites):
            if beside is not None:
                beside.close()
        self.remote.close()

    def serve_sites(self) -> None:
        """Play the stack of the sites from now on."""
        self.sites, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sites.setblocking(False)
        self.datapath.set_sites(end.detach())

    def session(self, index: int = 7, *, initiator: bool = True) -> Session:
        """A session whose keys the remote knows too; the remote calls it index + 100."""
        keys = bytes([index]) * 32, bytes([index + 1]) * 32
        return Session(index, index + 100, *keys, self.clock.now, initiator)

    async def connect(self, index: int = 7) -> None:
        """Install an initiator's session and take the keepalive it sends."""
        self.datapath.set_session(PEER, self.session(index))
        assert self.open(await self.receive(), index) == b""

    # the network

    def seal(self, packet: bytes, counter: int, index: int = 7) -> bytes:
        """What the remote would send."""
        return self.seal_plain(packet + bytes(-len(packet) % 16), counter, index)

    def seal_plain(self, packet: bytes, counter: int, index: int = 7) -> bytes:
        """The same without padding."""
        body = Aead(bytes([index + 1]) * 32).seal(_nonce(counter), packet, None)
        return _header.pack(4, index, counter) + body

    def open(self, datagram: bytes, index: int = 7) -> bytes:
        """What the remote gets to read, padding included."""
        kind, receiver, counter = _header.unpack_from(datagram)
        assert (kind, receiver) == (4, index + 100)
        return Aead(bytes([index]) * 32).open_untrusted(_nonce(counter), datagram[16:], None)

    def send(self, packet: bytes, counter: int | None = None, index: int = 7) -> bytes:
        """Send a sealed packet to the datapath, by default with the next counter."""
        if counter is None:
            counter = self._next()
        datagram = self.seal(packet, counter, index)
        self.remote.sendto(datagram, self.udp_addr)
        return datagram

    def send_plain(self, packet: bytes) -> None:
        """Send a sealed packet that has no padding."""
        self.remote.sendto(self.seal_plain(packet, self._next()), self.udp_addr)

    def _next(self) -> int:
        self._sent += 1
        return self._sent - 1

    def send_group(self, data: bytes, size: int) -> None:
        """Datagrams of ``size`` bytes each that arrive as one read where the datapath has GRO."""
        segment = size.to_bytes(2, sys.byteorder)
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, segment)]
        self.remote.sendmsg([data], control, 0, self.udp_addr)

    async def receive(self) -> bytes:
        """The next datagram the datapath sent."""
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(self.remote, 70000)

    # the host

    async def delivered(self) -> bytes:
        """The next packet written to the TUN device."""
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(self.host, 70000)

    # the slow path

    async def upcalls(self, count: int = 1) -> list[Upcall]:
        """The next upcalls, ``count`` or more."""
        loop = asyncio.get_running_loop()
        fd = self.datapath.event_fd()
        out: list[Upcall] = []
        async with asyncio.timeout(5):
            while len(out) < count:
                ready = asyncio.Event()
                loop.add_reader(fd, ready.set)
                try:
                    await ready.wait()
                finally:
                    loop.remove_reader(fd)
                out += self.datapath.take_upcalls(100)
        return out

    def dropped(self) -> dict[str, int]:
        """The counters that are not zero."""
        return {name: n for name, n in self.datapath.drops().items() if n}


def only(kind: type[U], upcalls: Iterable[object]) -> list[U]:
    """Those of one kind."""
    return [u for u in upcalls if isinstance(u, kind)]
