"""Pings of peers to what this node announces, sent on by this host.

An unprivileged ICMP socket (``man 7 icmp``, ``ping_group_range``) carries the whole message; where
the system allows none the program ``ping`` is run, as upstream always does.

Source: tailscale wgengine/netstack/netstack.go, userPing, maxInFlightPings.
"""

import asyncio
import contextlib
import logging
import shutil
import socket
from collections.abc import Callable
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.netstack.flows import Flows
from tailnet.agent.netstack.interface import Stack
from tailnet.agent.tasks import Tasks
from tailnet.platform.processes import run

log = logging.getLogger("tailnet.netstack")

MAX_FLOWS = 256
IDLE = 15.0  # seconds after the last request in which an answer is still passed on
SWEEP = 5.0  # seconds between looks at what is idle
MAX_PROGRAMS = 20  # at once, as upstream
PATIENCE = 4  # seconds the program waits
LARGEST = 65_535
HEADER = 8  # bytes: type, code, checksum, identifier, sequence number
READS = 64

_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}  # ICMP types (RFC 792, RFC 4443)


class _Key(NamedTuple):
    """One ``ping`` that somebody runs."""

    local: IPAddress
    remote: IPAddress
    identifier: bytes  # 2 bytes
    target: IPAddress  # ``local``, or what it means


class Pings:
    """All pings of one stack.

    Args:
        stack: answers leave through it.
        now: a clock.
        onward: where packets to an address go, if anywhere.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        now: Callable[[], float],
        onward: Callable[[AddrPort], AddrPort | None],
    ) -> None:
        self._stack = stack
        self._now = now
        self._onward = onward
        self._flows: Flows[_Key, socket.socket] = Flows(MAX_FLOWS)
        self._tasks = Tasks()
        self._programs = 0
        self._program: str | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._told = False
        self.dropped = 0

    async def close(self) -> None:
        """Forget everything."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for key, _ in self._flows.idle(0):
            self._end(key)
        await self._tasks.close()

    def handle(self, local: IPAddress, remote: IPAddress, message: bytes) -> None:
        """An echo request of a peer, whole and undamaged, to an address that is not ours."""
        target = self._onward(AddrPort(local, 0))
        if len(message) < HEADER or target is None:
            self.dropped += 1
            return
        key = _Key(local, remote, message[4:6], target.ip)
        sock = self._flows.use(key, self._now()) or self._begin(key)
        if sock is None:
            self._run(key, message)
            return
        message = bytes((_REQUEST[target.ip.version],)) + message[1:]
        try:
            sock.send(message)  # the kernel puts its own identifier and checksum
        except OSError as error:
            self.dropped += 1
            log.debug("ping to %s: %s", local, error)

    # --- by socket

    def _begin(self, key: _Key) -> socket.socket | None:
        sock = _icmp_socket(key.target)
        if sock is None:
            return None
        if (victim := self._flows.victim(key.remote)) is not None:
            self._end(victim)
        self._flows.add(key, key.remote, sock, self._now())
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, self._answer, key, sock)
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP, self._sweep)
        return sock

    def _answer(self, key: _Key, sock: socket.socket) -> None:
        for _ in range(READS):
            try:
                message = sock.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError as error:  # what a router said about one of them
                log.debug("ping to %s: %s", key.local, error)
                continue
            if len(message) >= HEADER and message[0] == _REPLY[key.target.version]:
                back = bytes((_REPLY[key.local.version],)) + message[1:4]
                back += key.identifier + message[6:]
                self._stack.send_icmp(str(key.local), str(key.remote), back)

    def _sweep(self) -> None:
        for key, idle in self._flows.idle(self._now()):
            if idle >= IDLE:
                self._end(key)
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP, self._sweep) if len(self._flows) else None

    def _end(self, key: _Key) -> None:
        if (sock := self._flows.remove(key)) is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    # --- by program

    def _run(self, key: _Key, message: bytes) -> None:
        if self._program is None:
            self._program = shutil.which("ping") or ""
        if not self._program and not self._told:
            self._told = True
            log.warning(
                "peers cannot ping what this node announces: the sysctl net.ipv4.ping_group_range "
                "excludes this process, and there is no ping program"
            )
        if not self._program or self._programs >= MAX_PROGRAMS:
            self.dropped += 1
            return
        self._programs += 1
        _ = self._tasks.start(f"ping {key.target}", self._ask(key, message))

    async def _ask(self, key: _Key, message: bytes) -> None:
        local, remote, target = str(key.local), str(key.remote), str(key.target)
        words = ("-q", "-c", "1", "-W", str(PATIENCE), "-s", str(len(message) - HEADER), target)
        try:
            async with asyncio.timeout(PATIENCE + 1):
                ended = await run(str(self._program), *words)
            if ended.status == 0:
                reply = bytes((_REPLY[key.local.version],)) + message[1:]
                self._stack.send_icmp(local, remote, reply)
        except (OSError, TimeoutError) as error:
            log.debug("ping to %s: %s", target, error)
        finally:
            self._programs -= 1


def _icmp_socket(to: IPAddress) -> socket.socket | None:
    """Connected; ``None`` where the system does not allow it, or has no way there."""
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP)
        if to.version == 4
        else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    with contextlib.ExitStack() as failed:
        try:
            sock = failed.enter_context(socket.socket(family, socket.SOCK_DGRAM, protocol))
            sock.setblocking(False)
            sock.connect((str(to), 0))
        except OSError as error:
            log.debug("icmp socket to %s: %s", to, error)
            return None
        failed.pop_all()
    return sock
