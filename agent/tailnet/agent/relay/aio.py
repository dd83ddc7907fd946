"""The peer relay's sockets: many datagrams of one session move with two system calls."""

import asyncio
import errno
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.datapath.interface import UdpPort
from tailnet.agent.datapath.reference.udp.aio import UdpSocket
from tailnet.agent.disco.geneve import HEADER_LEN
from tailnet.agent.disco.via import RelayEndpoint
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import DiscoPrivate
from tailnet.agent.netcheck.measurement import Addresses
from tailnet.agent.netcheck.plan import Plan
from tailnet.agent.relay.outside.aio import Outside
from tailnet.agent.relay.server import Pair, RelayServer, SessionInfo, Versions
from tailnet.agent.tailcfg.derpmap import DERPMap

log = logging.getLogger("tailnet.relay")

_READS = 16  # per wake-up, after which others of the loop get their turn
_DATAGRAM = 0xFFFF
_CONTROL = 0x80
_KNOWN = 4096  # parsed source addresses kept
_STUN_RESPONSE = b"\x01\x01"  # how one begins; a Geneve header begins with a zero


class PeerRelay:
    """A relay that can be turned on and off.

    Args:
        bind: sockets for a port (0: any), or others if it is taken.
        resolve: addresses of the STUN servers of a plan.
        versions: of IP that this machine has addresses of.
        now: seconds.
        random_bytes: source of randomness.

    Attributes:
        port: of IPv4, else of IPv6; 0 while off.
        problem: why it is not as wanted; empty if it is.
    """

    def __init__(
        self,
        bind: Callable[[int], Sequence[UdpPort]],
        *,
        resolve: Callable[[Plan], Awaitable[Addresses]],
        versions: Callable[[], frozenset[int]],
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._bind = bind
        self._resolve = resolve
        self._versions = versions
        self._now = now
        self._random_bytes = random_bytes
        self._server: RelayServer | None = None
        self._outside: Outside | None = None
        self._derp_map: DERPMap | None = None
        self._wanted: int | None = None
        self._sockets: dict[int, UdpSocket] = {}  # by IP version
        self._ports: dict[int, int] = {}
        self._fixed: tuple[AddrPort, ...] = ()
        self._hosts: tuple[IPAddress, ...] = ()
        self._seen: tuple[AddrPort, ...] = ()
        self._known: dict[tuple[str, int], AddrPort] = {}
        self._view = memoryview(bytearray(_DATAGRAM))
        self._timer: asyncio.TimerHandle | None = None
        self._drops: Counter[str] = Counter()
        self._before: tuple[Counter[Versions], Counter[Versions]] = Counter(), Counter()
        self.problem = ""

    # --- wishes

    def want(self, port: int | None, fixed: tuple[AddrPort, ...] = ()) -> None:
        """Run on ``port`` (0: any; ``None``: do not run), told at ``fixed`` addresses as well."""
        if port != self._wanted:
            self.close()
            self._wanted = port
            if port is not None:
                self._open(port)
        self._fixed = fixed
        self._tell()

    def set_hosts(self, hosts: Iterable[IPAddress]) -> None:
        """Our addresses, as far as they are known."""
        self._hosts = tuple(dict.fromkeys(hosts))
        self._tell()

    def set_derp_map(self, derp_map: DERPMap) -> None:
        """Whose STUN servers say where our port is seen from outside."""
        self._derp_map = derp_map
        if self._outside is not None:
            self._outside.set_map(derp_map)

    def network_changed(self) -> None:
        """What was seen from outside is worth nothing any more."""
        self._set_seen(())
        if self._outside is not None:
            self._outside.again()

    def close(self) -> None:
        """Stop; all sessions end."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets.values():
            loop.remove_reader(sock.fileno())
            loop.remove_writer(sock.fileno())
            sock.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._outside is not None:
            self._outside.close()
        if self._server is not None:
            self._drops += self._server.drops
            self._before = self.forwarded()
        self._sockets.clear()
        self._ports.clear()
        self._known.clear()
        self._seen = ()
        self._server = self._outside = self._wanted = None
        self.problem = ""

    # --- what is

    @property
    def port(self) -> int:
        """Where it listens; 0 while off."""
        return self._ports.get(4) or self._ports.get(6) or 0

    @property
    def running(self) -> bool:
        """There is a relay."""
        return self._server is not None

    def sessions(self) -> list[SessionInfo]:
        """All of them, the oldest first."""
        return [] if self._server is None else self._server.sessions()

    def drops(self) -> Mapping[str, int]:
        """Datagrams ignored, by reason."""
        return self._drops if self._server is None else self._drops + self._server.drops

    def forwarded(self) -> tuple[Counter[Versions], Counter[Versions]]:
        """Datagrams and bytes passed on since the start, by IP version in and out."""
        packets, size = self._before
        if (server := self._server) is None:
            return packets, size
        return packets + server.forwarded, size + server.forwarded_bytes

    def allocate(self, clients: Pair, now: float) -> RelayEndpoint | None:
        """A session for a pair; ``None``: not now.  See :meth:`RelayServer.allocate`."""
        if self._server is None:
            return None
        endpoint = self._server.allocate(clients, now)
        self._arm()
        return endpoint

    # --- inside

    def _open(self, port: int) -> None:
        try:
            opened = self._bind(port)
        except OSError as error:
            self.problem = f"the peer relay has no UDP socket: {error.strerror}"
            log.warning("%s", self.problem)
            return
        loop = asyncio.get_running_loop()
        for each in opened:
            sock = UdpSocket(each)
            self._sockets[sock.family] = sock
            self._ports[sock.family] = sock.port
            loop.add_reader(sock.fileno(), self._readable, sock)
        if port and self.port != port:
            self.problem = f"UDP port {port} is taken; the peer relay uses {self.port}"
        key = DiscoPrivate.from_random(self._random_bytes(32))
        self._server = RelayServer(key, random_bytes=self._random_bytes, now=self._now())
        log.info("peer relay on UDP port %d", self.port)
        self._outside = Outside(
            resolve=self._resolve,
            versions=lambda: self._versions() & self._sockets.keys(),
            send=lambda to, data: self._send(memoryview(data), len(data), to),
            on_seen=self._set_seen,
            now=self._now,
            random_bytes=self._random_bytes,
        )
        if self._derp_map is not None:
            self._outside.set_map(self._derp_map)

    def _set_seen(self, seen: tuple[AddrPort, ...]) -> None:
        if seen != self._seen:
            self._seen = seen
            log.info("peer relay seen from outside at %s", ", ".join(map(str, seen)) or "nothing")
            self._tell()

    def _tell(self) -> None:
        """The addresses where clients find us.

        Our port at an address seen from outside is among them: a NAT may forward it by hand.
        """
        if self._server is not None:
            ports = self._ports
            own = [AddrPort(ip, ports[ip.version]) for ip in self._hosts if ip.version in ports]
            self._server.set_addresses(tuple(dict.fromkeys((*self._fixed, *self._seen, *own))))

    def _arm(self) -> None:
        """One timer, while there are sessions."""
        at = None if self._server is None else self._server.deadline()
        if self._timer is None and at is not None:
            delay = max(0.0, at - self._now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._server is not None:
            self._server.handle_timeout(self._now())
        self._arm()

    # --- datagrams

    def _readable(self, sock: UdpSocket) -> None:
        now = self._now()
        for _ in range(_READS):
            try:
                length, size, src = sock.receive_into(self._view)
            except BlockingIOError:
                return
            except OSError as error:
                self._drops[f"read: {errno.errorcode.get(error.errno or 0, 'error')}"] += 1
                continue
            if length > 0:
                self._take(self._view[:length], size, self._parsed(src), now)

    def _take(self, data: memoryview, size: int, src: AddrPort, now: float) -> None:
        """Datagrams of ``size`` bytes from one source; often all are data of one session."""
        server = self._server
        if server is None:
            return
        head, length = bytes(data[:HEADER_LEN]), len(data)
        if head.startswith(_STUN_RESPONSE):
            self._take_stun(data, size)
            return
        alike = length <= size or all(
            data[at : at + HEADER_LEN] == head for at in range(size, length, size)
        )
        if alike and len(head) == HEADER_LEN and not head[1] & _CONTROL:
            count = -(-length // size)
            to = server.pass_on(int.from_bytes(head[4:7]), src, count, length, now)
            if to is not None:
                self._send(data, size, to)
            return
        for at in range(0, length, size):
            out = server.handle_datagram_untrusted(bytes(data[at : at + size]), src, now)
            if out is not None:
                self._send(memoryview(out.data), len(out.data), out.to)

    def _take_stun(self, data: memoryview, size: int) -> None:
        for at in range(0, len(data), size):
            try:
                if self._outside is not None:
                    self._outside.handle_response_untrusted(bytes(data[at : at + size]))
            except BadPacket:
                self._drops["STUN answer to nothing we asked"] += 1

    def _send(self, data: memoryview, size: int, to: AddrPort) -> bool:
        """Datagrams of ``size`` bytes; false if the kernel has no way there."""
        sock = self._sockets.get(to.ip.version)
        if sock is None:
            self._drops["no socket"] += 1
            return False
        if failed := sock.send(data, size, (str(to.ip), to.port)):
            self._drops[f"send: {errno.errorcode.get(failed, 'error')}"] += -(-len(data) // size)
        if sock.backlog:
            asyncio.get_running_loop().add_writer(sock.fileno(), self._writable, sock)
        return not failed

    def _writable(self, sock: UdpSocket) -> None:
        self._drops["send"] += sock.drain()
        if not sock.backlog:
            asyncio.get_running_loop().remove_writer(sock.fileno())

    def _parsed(self, src: tuple[str, int]) -> AddrPort:
        known = self._known.get(src)
        if known is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            known = self._known[src] = AddrPort.of(*src)
        return known
