"""The shell: the native stack in the event loop, and the place of a TUN device it takes."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable

from tailnet.agent.addr import AddrPort, IPAddress, IPNetwork
from tailnet.agent.netstack.choice import Reach, onward
from tailnet.agent.netstack.datagrams.aio import Datagrams
from tailnet.agent.netstack.interface import (
    DialError,
    EventKind,
    Failure,
    MakeStack,
    Stack,
)
from tailnet.agent.netstack.pings.aio import Pings
from tailnet.agent.tasks import Tasks
from tailnet.platform.interface import MTU, RouterConfig

log = logging.getLogger("tailnet.netstack")

NAME = "userspace-networking"
ACCEPT_PATIENCE = 10.0  # seconds for a server to take a peer's connection
EVENTS = 64  # taken at once, after which others of the loop get their turn
Door = Callable[[socket.socket, IPAddress], Awaitable[None]]
BUFFER = 8 << 20  # bytes between stack and datapath, if the system allows it
SO_SNDBUFFORCE = 32

_FAILURES = {
    b"refused": Failure.REFUSED,
    b"policy": Failure.POLICY,
    b"prohibited": Failure.PROHIBITED,
    b"timed out": Failure.TIMED_OUT,
    b"too many connections": Failure.BUSY,
}


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

    def detach_more(self) -> tuple[int, ...]:
        """There is one stack."""
        return ()

    def probe(self) -> bool:
        """No kernel to refuse anything."""
        return True

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

    Attributes:
        door: who of this process takes connections to a port, with the socket and the peer.
    """

    obstacle = ""  # nothing of the host comes before us

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
        self._accepting: dict[int, asyncio.Task[None]] = {}
        self._closed = False
        self.door: Callable[[AddrPort], Door | None] = lambda _: None
        self.reach = Reach()
        self.sites: frozenset[IPNetwork] = frozenset()  # whose router we are
        self.datagrams = Datagrams(self._stack, now=now, onward=self._onward)
        self._pings = Pings(self._stack, now=now, onward=self._onward)

    def _onward(self, local: AddrPort) -> AddrPort | None:
        return onward(self.reach.own, local, self.sites)

    # --- life, as a service

    async def start(self) -> None:
        """Listen to the stack."""
        self.listen()

    def listen(self) -> None:
        """The same, at once."""
        asyncio.get_running_loop().add_reader(self._stack.event_fd(), self._on_events)

    async def close(self) -> None:
        """End every connection.  Idempotent."""
        if not self._closed:
            self._closed = True
            asyncio.get_running_loop().remove_reader(self._stack.event_fd())
            await self._tasks.close()
            self.datagrams.close()
            await self._pings.close()
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

    async def down(self, *, leak_guard: bool = False) -> None:
        """Router: reach nothing."""
        await self.apply(RouterConfig())

    # --- dialling

    async def dial(self, source: IPAddress, target: AddrPort) -> StackConnection:
        """Connect through the tunnel.

        Raises:
            DialError: refused, no way there, or no answer.
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

    def drops(self) -> dict[str, int]:
        """What was not carried, by reason."""
        counted = dict(self._stack.stats())
        return {
            "connections": counted["syn_dropped"],
            "packets": counted["ignored"],
            "fragments": counted["fragments_dropped"],
            "datagrams": counted["udp_dropped"] + self.datagrams.dropped,
            "pings": self._pings.dropped,
        }

    # --- what happens

    def _on_events(self) -> None:
        for kind, stream, local, remote, data in self._stack.take_events(EVENTS):
            match kind:
                case EventKind.SYN:
                    ends = AddrPort.parse(local), AddrPort.parse(remote)
                    self._begin_to_accept(stream, *ends)
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
                    if (accepting := self._accepting.get(stream)) is not None:
                        accepting.cancel()  # the peer does not wait any more
                case EventKind.UDP:
                    self.datagrams.handle(AddrPort.parse(local), AddrPort.parse(remote), data)
                case EventKind.PING:
                    near, far = AddrPort.parse(local).ip, AddrPort.parse(remote).ip
                    self._pings.handle(near, far, data)
                case EventKind.DIED if not self._closed:
                    self._on_failed(f"userspace networking stopped: {data.decode()}")

    def _future(self, stream: int) -> asyncio.Future[StackConnection] | None:
        future = self._dialling.pop(stream, None)
        return future if future is not None and not future.done() else None

    def _begin_to_accept(self, stream: int, local: AddrPort, remote: AddrPort) -> None:
        def end(_: asyncio.Task[None]) -> None:
            self._accepting.pop(stream, None)

        door = self.door(local)
        accept = self._accept(stream, local) if door is None else self._let_in(stream, remote, door)
        task = self._tasks.start(f"accept {remote}", accept)
        self._accepting[stream] = task
        task.add_done_callback(end)

    async def _accept(self, stream: int, local: AddrPort) -> None:
        """A peer's connection goes on; only when it is through is the peer's accepted."""
        target = self._onward(local)
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

    async def _let_in(self, stream: int, remote: AddrPort, door: Door) -> None:
        """A peer's connection is for a server of this process."""
        try:
            ours, theirs = _pair()
        except OSError as error:
            log.debug("%s: %s", remote, error)
            self._stack.abort(stream)
            return
        with contextlib.ExitStack() as failed:
            failed.enter_context(ours)
            self._stack.join(stream, theirs.detach())
            self._accepting.pop(stream, None)  # the door sees for itself when the peer is gone
            await door(ours, remote.ip)
            failed.pop_all()


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def _enlarge(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)  # needs privilege
