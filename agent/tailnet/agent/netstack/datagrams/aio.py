"""UDP: a peer's datagrams go on by ordinary sockets; a proxy's leave from ports of ours.

Source: tailscale wgengine/netstack/netstack.go, forwardUDP.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.netstack.flows import Flows
from tailnet.agent.netstack.interface import Stack

log = logging.getLogger("tailnet.netstack")

MAX_FLOWS = 1024
IDLE, IDLE_DNS = 120.0, 30.0  # seconds without a datagram until a flow is forgotten
SWEEP = 10.0  # seconds between looks at what is idle
FIRST_PORT, LAST_PORT = 32_768, 60_999  # as Linux
LARGEST = 65_535
READS = 64

OnDatagram = Callable[[AddrPort, bytes], None]


_Key = tuple[AddrPort, AddrPort]  # the port a peer sends to, and its own


class Datagrams:
    """All UDP of one stack."""

    def __init__(
        self,
        stack: Stack,
        *,
        now: Callable[[], float],
        onward: Callable[[AddrPort], AddrPort | None],
    ) -> None:
        """``onward``: where datagrams to an address go, if anywhere."""
        self._stack = stack
        self._onward = onward
        self._now = now
        self._flows: Flows[_Key, socket.socket] = Flows(MAX_FLOWS)
        self._ports: dict[AddrPort, OnDatagram] = {}
        self._next_port = FIRST_PORT
        self._sweeper: asyncio.TimerHandle | None = None
        self.dropped = 0

    def close(self) -> None:
        """Forget everything."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for key, _ in self._flows.idle(0):
            self._end(key)

    # --- from the stack

    def handle(self, local: AddrPort, remote: AddrPort, data: bytes) -> None:
        """A datagram came in."""
        if (receiver := self._ports.get(local)) is not None:
            receiver(remote, data)
            return
        key = local, remote
        sock = self._flows.use(key, self._now()) or self._begin(key)
        if sock is None:
            self.dropped += 1
            return
        try:
            sock.send(data)
        except ConnectionRefusedError:
            self._refuse(key)
        except OSError:  # its buffer is full, or the datagram too large for the way
            self.dropped += 1

    def _begin(self, key: _Key) -> socket.socket | None:
        local, remote = key
        target = self._onward(local)
        if target is None or not local.port or not remote.port:
            return None
        if (victim := self._flows.victim(remote.ip)) is not None:
            self._end(victim)
        family = socket.AF_INET if target.ip.version == 4 else socket.AF_INET6
        with contextlib.ExitStack() as failed:
            try:
                sock = failed.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                sock.setblocking(False)
                sock.connect((str(target.ip), target.port))
            except OSError as error:
                log.debug("udp to %s: %s", target, error)
                return None
            failed.pop_all()
        self._flows.add(key, remote.ip, sock, self._now())
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, self._answer, key, sock)
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP, self._sweep)
        return sock

    def _answer(self, key: _Key, sock: socket.socket) -> None:
        local, remote = str(key[0]), str(key[1])
        for _ in range(READS):
            try:
                data = sock.recv(LARGEST)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                self._refuse(key)
                return
            except OSError:
                self._end(key)
                return
            self._flows.use(key, self._now())
            self._stack.send_udp(local, remote, data)

    def _refuse(self, key: _Key) -> None:
        """Nobody listens on that port, and the peer may know it."""
        self._end(key)
        self._stack.refuse_udp(str(key[0]), str(key[1]))

    def _sweep(self) -> None:
        for key, idle in self._flows.idle(self._now()):
            if idle >= (IDLE_DNS if key[0].port == 53 else IDLE):
                self._end(key)
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP, self._sweep) if len(self._flows) else None

    def _end(self, key: _Key) -> None:
        if (sock := self._flows.remove(key)) is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    # --- from proxies

    def open(self, source: IPAddress, receiver: OnDatagram) -> AddrPort | None:
        """A port of ours whose datagrams go to ``receiver``; ``None`` if all are taken."""
        for _ in range(FIRST_PORT, LAST_PORT + 1):
            port = self._next_port
            self._next_port = FIRST_PORT if port == LAST_PORT else port + 1
            local = AddrPort(source, port)
            if local not in self._ports:
                self._ports[local] = receiver
                return local
        return None

    def send(self, local: AddrPort, remote: AddrPort, data: bytes) -> None:
        """From a port that was opened."""
        self._stack.send_udp(str(local), str(remote), data)

    def release(self, local: AddrPort) -> None:
        """The opposite of ``open``."""
        self._ports.pop(local, None)
