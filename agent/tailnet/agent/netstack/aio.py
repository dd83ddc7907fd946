"""The shell: the native stack in the event loop, and the place of a TUN device it takes."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.netstack.choice import LOOPBACK, Reach, find_name, onward, parse_ip
from tailnet.agent.netstack.datagrams.aio import Datagrams
from tailnet.agent.netstack.interface import (
    Connection,
    DialError,
    EventKind,
    Failure,
    Stack,
)
from tailnet.agent.netstack.relay import aio as relay
from tailnet.agent.tasks import Tasks
from tailnet.platform.interface import MTU, RouterConfig

log = logging.getLogger("tailnet.netstack")

NAME = "userspace-networking"
ACCEPT_PATIENCE = 10.0  # seconds for a server to take a peer's connection
EVENTS = 64  # taken at once, after which others of the loop get their turn
BUFFER = 8 << 20  # bytes between stack and datapath, if the system allows it
SO_SNDBUFFORCE = 32

_FAILURES = {
    b"refused": Failure.REFUSED,
    b"timed out": Failure.TIMED_OUT,
    b"too many connections": Failure.BUSY,
}

MakeStack = Callable[[int], Stack]


class PacketSocket:
    """The datapath's end, in the shape of a TUN device."""

    name = NAME
    mtu = MTU
    vnet_hdr = True
    uso = False

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def detach(self) -> int:
        """Give the descriptor away."""
        return self._sock.detach()

    def close(self) -> None:
        """Close it if it was not given away."""
        self._sock.close()


class StackConnection:
    """A connection of the native stack that waits for its socket."""

    def __init__(self, stack: Stack, stream: int, local: AddrPort) -> None:
        self._stack = stack
        self._stream = stream
        self.local = local

    def join(self, fd: int, early: bytes) -> None:
        """Its bytes go from and to this socket."""
        self._stack.join(self._stream, fd, early)

    def abort(self) -> None:
        """Reset it."""
        self._stack.abort(self._stream)


class Userspace:
    """One node's stack.  It is a router too: addresses and routes say what it reaches.

    Args:
        make_stack: makes a stack on a packet socket's descriptor, which it takes.
        now: a clock.
        on_failed: called with a reason when the stack cannot go on.
    """

    def __init__(
        self, make_stack: MakeStack, *, now: Callable[[], float], on_failed: Callable[[str], None]
    ) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, self._theirs):
            end.setblocking(False)
            _enlarge(end)
        self._stack = make_stack(ours.detach())
        self._on_failed = on_failed
        self._tasks = Tasks()
        self._dialling: dict[int, asyncio.Future[StackConnection]] = {}
        self._closed = False
        self.reach = Reach()
        self.datagrams = Datagrams(
            self._stack, now=now, onward=lambda local: onward(self.reach.own, local)
        )

    # --- life, as a service

    async def start(self) -> None:
        """Listen to the stack."""
        asyncio.get_running_loop().add_reader(self._stack.event_fd(), self._on_events)

    async def close(self) -> None:
        """End every connection.  Idempotent."""
        if not self._closed:
            self._closed = True
            asyncio.get_running_loop().remove_reader(self._stack.event_fd())
            await self._tasks.close()
            self.datagrams.close()
            self._stack.stop()
            self._theirs.close()

    # --- as the operating system

    def open_tun(self) -> PacketSocket:
        """What the datapath takes for a TUN device; once."""
        return PacketSocket(self._theirs)

    async def up(self) -> None:
        """Router: nothing to prepare."""

    async def apply(self, config: RouterConfig) -> None:
        """Router: the node's addresses and what lies in the tailnet."""
        own = frozenset(address.ip for address in config.local_addrs)
        if own != self.reach.own:
            self._stack.set_addresses(sorted(map(str, own)))
        self.reach = Reach(own, config.routes)

    async def down(self) -> None:
        """Router: reach nothing."""
        await self.apply(RouterConfig())

    # --- dialling

    async def dial(self, source: IPAddress, target: AddrPort) -> StackConnection:
        """Connect through the tunnel.

        Raises:
            DialError: refused, or no answer.
        """
        stream = self._stack.dial(str(source), str(target))
        future = asyncio.get_running_loop().create_future()
        self._dialling[stream] = future
        try:
            connection: StackConnection = await future
        except asyncio.CancelledError:
            self._stack.abort(stream)
            raise
        finally:
            self._dialling.pop(stream, None)
        return connection

    # --- what happens

    def _on_events(self) -> None:
        for kind, stream, local, remote, data in self._stack.take_events(EVENTS):
            match kind:
                case EventKind.SYN:
                    where = AddrPort.parse(local)
                    _ = self._tasks.start(f"accept {remote}", self._accept(stream, where))
                case EventKind.CONNECTED:
                    connection = StackConnection(self._stack, stream, AddrPort.parse(local))
                    if (future := self._future(stream)) is not None:
                        future.set_result(connection)
                    else:
                        connection.abort()
                case EventKind.FAILED:
                    if (future := self._future(stream)) is not None:
                        failure = _FAILURES.get(data, Failure.UNREACHABLE)
                        future.set_exception(DialError(failure, remote))
                case EventKind.CLOSED:
                    log.debug("%s with %s ended %s", local, remote, data.decode())
                case EventKind.UDP:
                    self.datagrams.handle(AddrPort.parse(local), AddrPort.parse(remote), data)
                case EventKind.DIED if not self._closed:
                    self._on_failed(f"userspace networking stopped: {data.decode()}")

    def _future(self, stream: int) -> asyncio.Future[StackConnection] | None:
        future = self._dialling.pop(stream, None)
        return future if future is not None and not future.done() else None

    async def _accept(self, stream: int, local: AddrPort) -> None:
        """A peer's connection goes on; only when it is through is the peer's accepted."""
        target = onward(self.reach.own, local)
        if target is None:
            self._stack.abort(stream)
            return
        family = socket.AF_INET if target.ip.version == 4 else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                async with asyncio.timeout(ACCEPT_PATIENCE):
                    where = (str(target.ip), target.port)
                    await asyncio.get_running_loop().sock_connect(sock, where)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._stack.join(stream, sock.detach())
        except OSError as error:
            log.debug("%s: %s", target, error)
            self._stack.abort(stream)


def _enlarge(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)  # needs privilege


class Dialer:
    """Connects by name or address: into the tailnet, or the host's ordinary way.

    Args:
        names: addresses of the tailnet's nodes by name.
        userspace: the stack; ``None`` where the kernel routes into the tailnet.
    """

    def __init__(
        self,
        names: Callable[[], Mapping[str, tuple[IPAddress, ...]]],
        userspace: Userspace | None,
    ) -> None:
        self._names = names
        self._userspace = userspace
        self._tasks = Tasks()

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """End the host's connections."""
        await self._tasks.close()

    @property
    def datagrams(self) -> Datagrams | None:
        """UDP into the tailnet, where it does not go through the kernel."""
        return self._userspace.datagrams if self._userspace is not None else None

    def source(self, destination: IPAddress) -> IPAddress | None:
        """Our address towards ``destination`` if it is the stack's business."""
        return self._userspace.reach.source(destination) if self._userspace is not None else None

    async def resolve(
        self, host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM
    ) -> list[AddrPort]:
        """Addresses of a name or literal; the tailnet's names first.

        Raises:
            DialError: there are none.
        """
        if (ip := parse_ip(host)) is not None:
            return [AddrPort(ip, port)]
        if ips := find_name(self._names(), host):
            return [AddrPort(ip, port) for ip in ips]
        return await relay.resolve(host, port, kind)

    async def connect(self, host: str, port: int) -> Connection:
        """Connect.

        Raises:
            DialError: no name, no way, no answer.
        """
        targets = await self.resolve(host, port)
        error = DialError(Failure.UNREACHABLE, host)
        outside: list[AddrPort] = []
        for target in targets:
            source = self.source(target.ip)
            if source is None or self._userspace is None:
                outside.append(self._here(target))
                continue
            try:
                return await self._userspace.dial(source, target)
            except DialError as failed:
                error = failed
        if not outside:
            raise error
        return relay.HostConnection(await relay.connect(outside), self._tasks)

    def _here(self, target: AddrPort) -> AddrPort:
        """Our own tailnet address is this host, whose servers listen on loopback."""
        own = self._userspace is not None and target.ip in self._userspace.reach.own
        return AddrPort(LOOPBACK, target.port) if own else target
