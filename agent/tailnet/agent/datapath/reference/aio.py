"""The shell: descriptors in the event loop of asyncio."""

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from datetime import datetime

from tailnet.agent import clock
from tailnet.agent._version import __version__
from tailnet.agent.addr import AddrPort
from tailnet.agent.datapath.interface import (
    UPCALL_LIMIT,
    About,
    Failed,
    PathFailed,
    RelayOut,
    Session,
    TunPort,
    UdpPort,
    Upcall,
)
from tailnet.agent.datapath.reference import drops, vnet
from tailnet.agent.datapath.reference.beside.aio import (
    ServiceSocket,
    SiteSocket,
    TapSocket,
    is_for_site,
)
from tailnet.agent.datapath.reference.control import Control
from tailnet.agent.datapath.reference.outbound import READ, SLACK, Run
from tailnet.agent.datapath.reference.udp.aio import UdpSocket
from tailnet.agent.filter.parse import Buffer
from tailnet.agent.keys import PeerId

# Reads per wake-up, after which others of the loop get their turn.  With offload each brings up to
# 64 KiB.
_TUN_READS, _UDP_READS = 16, 8
_PLAIN_READS = 64
_DATAGRAM = 0xFFFF

# Errors of the network that a UDP socket reports on reading; the socket itself is well.
_PASSING = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EMSGSIZE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EINTR,
    }
)


class ReferenceDatapath(Control):
    """The :class:`~tailnet.agent.datapath.interface.Datapath` in pure Python.

    Its methods belong to the thread of the event loop in which :meth:`start` was called.
    """

    threaded = False

    def __init__(
        self,
        *,
        now: Callable[[], float],
        wall: Callable[[], datetime] = clock.wall,
        upcall_limit: int = UPCALL_LIMIT,
    ) -> None:
        super().__init__(upcall_limit)
        self.about = About("reference", __version__, "cryptography")
        self._now, self._wall = now, wall
        self._service: ServiceSocket | None = None
        self._sites: SiteSocket | None = None
        self._tap: TapSocket | None = None
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._signalled = False
        self._tun: TunPort | None = None
        self._udp: dict[int, UdpSocket] = {}  # by IP version
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = self._paused = False
        self._tun_buffer = bytearray(READ + SLACK)
        self._tun_view = memoryview(self._tun_buffer)[:READ]
        self._udp_view = memoryview(bytearray(_DATAGRAM))

    def __del__(self) -> None:
        os.close(self._event_fd)

    # --- life ---------------------------------------------------------------

    def start(self, tun: TunPort, udp: Sequence[UdpPort]) -> None:
        """Take the descriptors and begin.  Once per object."""
        self._loop = asyncio.get_running_loop()
        self._tun = tun
        for fd in tun.queues:
            os.set_blocking(fd, False)
        self._outbound.mtu = tun.mtu
        self._inbound.mtu = tun.mtu
        self._inbound.set_offload(vnet_hdr=tun.vnet_hdr, uso=tun.uso, tso=tun.tso)
        self._listen()
        if self._service is not None:
            self._service.start(tun)
        if self._sites is not None:
            self._sites.start()
        self.set_udp(udp)

    def set_service(self, fd: int) -> None:
        """Give the services of the daemon their packets.  Before the start."""
        self._service = self._outbound.service = ServiceSocket(fd, self._drops)

    def set_sites(self, fd: int | None) -> None:
        """Give a stack what peers send to sites, from now on; ``None``: the host."""
        if self._sites is not None:
            self._sites.close()
        self._sites = None if fd is None else SiteSocket(fd, self._on_site)
        if self._sites is not None and self._tun is not None:
            self._sites.start()

    def set_tap(self, fd: int | None) -> None:
        """Copy every packet to a packet socket from now on; ``None``: no more."""
        if self._tap is not None:
            self._tap.close()
        self._tap = None if fd is None else TapSocket(fd, self._drops, self._wall)
        put = None if self._tap is None else self._tap.put
        self._outbound.tap = self._inbound.tap = put
        if self._service is not None:
            self._service.tap = self._tap

    def set_udp(self, udp: Sequence[UdpPort]) -> None:
        """Replace the sockets after a rebind; the old ones are closed."""
        self._close_udp()
        for port in udp:
            sock = UdpSocket(port)
            if self._loop is None or self._stopped:
                sock.close()
                continue
            self._udp[sock.family] = sock
            self._loop.add_reader(sock.fileno(), self._on_udp, sock)
        for peer in self._tables.peers.values():
            peer.path_failed = False

    def stop(self) -> None:
        """Stop and close everything taken.  Idempotent."""
        self._close_udp()
        self._stopped = True
        self.set_tap(None)
        self.set_sites(None)
        if self._service is not None:
            self._service.close()
        if self._tun is not None and self._loop is not None:
            self._deafen()
            for fd in self._tun.queues:
                os.close(fd)
            self._tun = None

    def _close_udp(self) -> None:
        for sock in self._udp.values():
            if self._loop is not None:
                self._loop.remove_reader(sock.fileno())
                self._loop.remove_writer(sock.fileno())
            sock.close()
        self._udp.clear()
        self._resume()

    def _fail(self, reason: str) -> None:
        self.stop()
        self._upcalls.put(Failed(reason))

    # --- upcalls ------------------------------------------------------------

    def event_fd(self) -> int:
        """Readable while upcalls wait; valid until the object is dropped."""
        return self._event_fd

    def take_upcalls(self, limit: int) -> list[Upcall]:
        """At most ``limit`` upcalls, oldest first."""
        taken = self._upcalls.take(limit)
        if not self._upcalls and self._signalled:
            os.eventfd_read(self._event_fd)
            self._signalled = False
        return taken

    # --- sessions -----------------------------------------------------------

    def set_session(self, peer: PeerId, session: Session) -> None:
        """Add a session; an initiator's flushes the peer's queue (or sends a keepalive)."""
        if self._install_session(peer, session, self._now()):
            self._pump()

    def discard_queue(self, peer: PeerId) -> None:
        """The handshake was given up: drop what waits, and tell the host."""
        self._discard(peer, self._now())
        self._pump()

    def send_keepalive(self, peer: PeerId) -> None:
        """Send an empty packet on the current session, if there is one."""
        if (known := self._tables.peers.get(peer)) is not None:
            self._outbound.keepalive(known, self._now())
            self._pump()

    # --- packets of the slow path -------------------------------------------

    def send_udp(self, dst: AddrPort, datagrams: Sequence[bytes]) -> int:
        """Send disco, STUN or handshakes as they are.  Returns 0 or an errno; never raises."""
        sock = self._udp.get(dst.ip.version)
        if sock is None:
            return errno.EAFNOSUPPORT
        where = (str(dst.ip), dst.port)
        failed = 0
        for datagram in datagrams:
            failed = sock.send(memoryview(datagram), len(datagram), where) or failed
        self._watch(sock)
        return failed

    def relay_in(self, datagrams: Sequence[bytes]) -> None:
        """Sealed transport messages that came through a relay."""
        now = self._now()
        for datagram in datagrams:
            if 0 < len(datagram) <= _DATAGRAM:
                if self._inbound.full:
                    self._write()
                self._inbound.receive(memoryview(datagram), len(datagram), None, now)
            else:
                self._drops[drops.IN_UNKNOWN] += 1
        self._pump()

    def send_plain(self, peer: PeerId, packets: Sequence[bytes]) -> None:
        """Packets made by the daemon, to a peer: no filter verdict, but flow state is noted."""
        known = self._tables.peers.get(peer)
        if known is None:
            self._drops[drops.OUT_NO_PEER] += len(packets)
            return
        now = self._now()
        for packet in packets:
            self._outbound.plain(known, packet, now)
            if self._outbound.full:
                self._transmit()
        self._pump()

    # --- packets ------------------------------------------------------------

    def _listen(self) -> None:
        """To every queue.  Answers all go to the first: the kernel moves the flows there."""
        if self._tun is not None and self._loop is not None:
            for fd in self._tun.queues:
                self._loop.add_reader(fd, self._on_tun, fd)

    def _deafen(self) -> None:
        if self._tun is not None and self._loop is not None:
            for fd in self._tun.queues:
                self._loop.remove_reader(fd)

    def _on_tun(self, fd: int) -> None:
        now = self._now()
        tun = self._tun
        assert tun is not None
        for _ in range(_TUN_READS if tun.vnet_hdr else _PLAIN_READS):
            try:
                size = os.readv(fd, [self._tun_view])
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._fail(f"reading the TUN device: {error.strerror}")
                break
            if not size:
                self._fail("the TUN device is gone")
                break
            self._outbound.read(self._tun_buffer, size, now, vnet_hdr=tun.vnet_hdr)
            if self._outbound.full:
                self._transmit()
        self._pump()

    def _on_site(self, buffer: bytearray, size: int) -> None:
        """As :meth:`_on_tun`; an empty read is the last of some."""
        if size:
            self._outbound.read(buffer, size, self._now(), vnet_hdr=True)
        if self._outbound.full:
            self._transmit()
        if not size:
            self._pump()

    def _on_udp(self, sock: UdpSocket) -> None:
        now = self._now()
        view, inbound = self._udp_view, self._inbound
        for _ in range(_UDP_READS):
            try:
                length, size, src = sock.receive_into(view)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno not in _PASSING:
                    self._fail(f"reading a UDP socket: {error.strerror}")
                    break
                self._drops[drops.UDP_READ] += 1
                continue
            if length <= 0:
                self._drops[drops.IN_UNKNOWN] += 1
                continue
            if inbound.full:
                self._write()
            inbound.receive(view[:length], size, src, now)
        self._pump()

    def _pump(self) -> None:
        """Everything that waits to leave, leaves."""
        self._write()
        confirmed = self._inbound.confirmed
        while confirmed:
            peer = confirmed.pop()
            while self._outbound.flush(peer, self._now()):
                self._transmit()
        self._answer()
        self._transmit()
        if self._upcalls and not self._signalled:
            os.eventfd_write(self._event_fd, 1)
            self._signalled = True

    def _write(self) -> None:
        for buffers in self._inbound.take():
            self._write_one(buffers)

    def _write_one(self, buffers: Sequence[Buffer]) -> None:
        if self._tun is None:
            return
        try:
            if self._sites is not None and is_for_site(buffers, vnet_hdr=self._tun.vnet_hdr):
                self._sites.put(buffers, vnet_hdr=self._tun.vnet_hdr)
            else:
                os.writev(self._tun.fd, buffers)
        except OSError:
            self._drops[drops.TUN_WRITE] += 1

    def _answer(self) -> None:
        to_host, to_peers = self._replies.to_host, self._replies.to_peers
        head = [vnet.PLAIN] if self._tun is not None and self._tun.vnet_hdr else []
        for packet in to_host:
            self._write_one([*head, packet])
        for peer, packet in to_peers:
            self._outbound.plain(peer, packet, self._now())
        to_host.clear()
        to_peers.clear()

    def _transmit(self) -> None:
        for run in self._outbound.take():
            peer = run.peer
            if peer.sockaddr is not None:
                self._send_direct(run)
            if peer.path.relay:
                data, size, head = run.data, run.size, len(peer.head)
                cut = [bytes(data[i + head : i + size]) for i in range(0, len(data), size)]
                if not self._upcalls.put(RelayOut(peer.id, cut)):
                    self._drops[drops.UPCALLS_FULL] += len(cut)
            elif peer.sockaddr is None:
                self._drops[drops.OUT_NO_PATH] += -(-len(run.data) // run.size)

    def _send_direct(self, run: Run) -> None:
        peer, dst = run.peer, run.peer.sockaddr
        assert dst is not None
        sock = self._udp.get(peer.family)
        failed = errno.EAFNOSUPPORT if sock is None else sock.send(run.data, run.size, dst)
        if sock is not None:
            self._watch(sock)
        if not failed:
            return
        lost = -(-len(run.data) // run.size)
        if failed == errno.EAGAIN:
            self._drops[drops.OUT_BACKLOG] += lost
            return
        self._drops[drops.OUT_SEND] += lost
        if not peer.path_failed and peer.path.udp is not None:
            peer.path_failed = True
            self._upcalls.put(PathFailed(peer.id, peer.path.udp, failed))

    # --- a full socket holds the TUN device back ----------------------------

    def _watch(self, sock: UdpSocket) -> None:
        if sock.backlog and not self._paused and self._loop is not None and self._tun is not None:
            self._paused = True
            self._deafen()
            self._loop.add_writer(sock.fileno(), self._on_writable, sock)

    def _on_writable(self, sock: UdpSocket) -> None:
        self._drops[drops.OUT_SEND] += sock.drain()
        if not sock.backlog and self._loop is not None:
            self._loop.remove_writer(sock.fileno())
            self._resume()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._listen()
            for sock in self._udp.values():
                self._watch(sock)
