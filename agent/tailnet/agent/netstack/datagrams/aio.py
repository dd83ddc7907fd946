"""UDP: a peer's datagrams go on by ordinary sockets; a proxy's leave from ports of ours.

Source: tailscale wgengine/netstack/netstack.go, forwardUDP.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.netstack.interface import Stack

log = logging.getLogger("tailnet.netstack")

MAX_FLOWS = 1024
IDLE, IDLE_DNS = 120.0, 30.0  # seconds without a datagram until a flow is forgotten
SWEEP = 10.0  # seconds between looks at what is idle
FIRST_PORT, LAST_PORT = 32_768, 60_999  # as Linux
LARGEST = 65_535

OnDatagram = Callable[[AddrPort, bytes], None]


class _Flow:
    """One peer's port, and a socket for it towards the local server."""

    def __init__(self, sock: socket.socket, used: float) -> None:
        self.sock = sock
        self.used = used


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
        self._flows: dict[tuple[AddrPort, AddrPort], _Flow] = {}
        self._ports: dict[AddrPort, OnDatagram] = {}
        self._next_port = FIRST_PORT
        self._sweeper: asyncio.TimerHandle | None = None
        self.dropped = 0

    def close(self) -> None:
        """Forget everything."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for key in list(self._flows):
            self._end(key)

    # --- from the stack

    def handle(self, local: AddrPort, remote: AddrPort, data: bytes) -> None:
        """A datagram came in."""
        if (receiver := self._ports.get(local)) is not None:
            receiver(remote, data)
            return
        flow = self._flows.get((local, remote)) or self._begin(local, remote)
        if flow is None:
            self.dropped += 1
            return
        flow.used = self._now()
        with contextlib.suppress(OSError):  # nobody listens, or its buffer is full
            flow.sock.send(data)

    def _begin(self, local: AddrPort, remote: AddrPort) -> _Flow | None:
        target = self._onward(local)
        if target is None or len(self._flows) >= MAX_FLOWS or not local.port:
            return None
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
        flow = self._flows[local, remote] = _Flow(sock, self._now())
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, self._answer, local, remote, flow)
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP, self._sweep)
        return flow

    def _answer(self, local: AddrPort, remote: AddrPort, flow: _Flow) -> None:
        for _ in range(64):
            try:
                data = flow.sock.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError:
                self._end((local, remote))  # nobody listens on that port
                return
            flow.used = self._now()
            self._stack.send_udp(str(local), str(remote), data)

    def _sweep(self) -> None:
        now = self._now()
        for key, flow in list(self._flows.items()):
            if now - flow.used >= (IDLE_DNS if key[0].port == 53 else IDLE):
                self._end(key)
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP, self._sweep) if self._flows else None

    def _end(self, key: tuple[AddrPort, AddrPort]) -> None:
        flow = self._flows.pop(key, None)
        if flow is not None:
            asyncio.get_running_loop().remove_reader(flow.sock)
            flow.sock.close()

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
