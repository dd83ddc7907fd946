"""One TCP stream over a bad path: the userspace stack next to the kernel's TCP.

``python -m integration.bench.impaired [--loss PERCENT …] [--delay MS] [--rate MBIT] [--queue N]
[--congestion NAME] [--seconds S] [--rounds R] [--seed N]``.  Needs root and the native extension.

A process forwards packets of 1,280 bytes between two ends and makes the path: random loss (from
``--seed``), half the round trip's delay in each direction, a bottleneck with a drop-tail queue.  An
end is a TUN device in a namespace of its own, or the userspace stack's packet socket.  There is no
WireGuard in it.  What is counted is what the receiver got.
"""

import argparse
import contextlib
import ctypes
import os
import random
import select
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TypeVar

from tailnet_native import Netstack

from tailnet.agent.datapath.reference.split import split
from tailnet.agent.netstack.interface import EventKind
from tailnet.platform.linux.tun import open_tun

MTU = 1280
PORT = 5201
ADDRESSES = ("100.64.0.1", "100.64.0.2")
CLONE_NEWNET = 0x40000000
VNET = bytes(10)
BLOCK = 128 << 10
SYSTEM, OURS = "kernel", "userspace"

T = TypeVar("T")


class PathSpec(NamedTuple):
    """What the forwarder makes of the path."""

    loss: float  # of each packet, 0 to 1
    delay: float  # one way [s]
    rate: float  # bytes/s
    queue: int  # packets
    seed: int


class Direction:
    """One direction of the path."""

    def __init__(self, spec: PathSpec, seed: int, source: int, sink: int, *, vnet: bool) -> None:
        self._spec = spec
        self._random = random.Random(seed)
        self._source, self._sink = source, sink
        self._vnet = vnet  # packets for the sink have a virtio-net header
        self._flying: deque[tuple[float, bytes]] = deque()
        self._queued: deque[float] = deque()
        self._free = 0.0

    def read(self, now: float, *, vnet: bool) -> None:
        """Everything that waits; ``vnet``: with headers, and in super-packets."""
        for _ in range(64):
            buffer = bytearray(1 << 17)
            try:
                size = os.readv(self._source, [buffer])
            except BlockingIOError:
                return
            if not vnet:
                self._take(bytes(buffer[:size]), now)
                continue
            for start, end in split(buffer, size):
                self._take(bytes(buffer[start:end]), now)

    def _take(self, packet: bytes, now: float) -> None:
        while self._queued and self._queued[0] <= now:
            self._queued.popleft()
        if self._random.random() < self._spec.loss or len(self._queued) >= self._spec.queue:
            return
        self._free = max(self._free, now) + len(packet) / self._spec.rate
        self._queued.append(self._free)
        self._flying.append((self._free + self._spec.delay, packet))

    def write(self, now: float) -> float | None:
        """What has arrived; when the next one does."""
        while self._flying:
            due, packet = self._flying[0]
            if due > now:
                return due
            self._flying.popleft()
            with contextlib.suppress(BlockingIOError):
                os.write(self._sink, VNET + packet if self._vnet else packet)
        return None


def forward(spec: PathSpec, ends: tuple[int, int], vnet: tuple[bool, bool]) -> None:
    """Until killed."""
    one, two = ends
    there = Direction(spec, spec.seed, one, two, vnet=vnet[1])
    back = Direction(spec, spec.seed + 1, two, one, vnet=vnet[0])
    poll = select.poll()
    for end in ends:
        os.set_blocking(end, False)
        poll.register(end, select.POLLIN)
    while True:
        now = time.monotonic()
        due = [at for at in (there.write(now), back.write(now)) if at is not None]
        wait = min(due) - now if due else 1.0
        poll.poll(max(0.0, wait * 1000))
        now = time.monotonic()
        there.read(now, vnet=vnet[0])
        back.read(now, vnet=vnet[1])


class End(Protocol):
    """One end of the path."""

    fd: int  # its packets
    vnet: bool

    def start(self) -> None:
        """The forwarder runs."""

    def connect(self, to: str) -> socket.socket:
        """A connection to the other end."""

    def listen(self) -> Callable[[], socket.socket]:
        """What waits for a connection."""

    def close(self) -> None:
        """Leave nothing."""


class KernelEnd:
    """A TUN device in a namespace."""

    vnet = False

    def __init__(self, number: int) -> None:
        self._namespace = f"impaired{os.getpid()}{number}"
        self._address = ADDRESSES[number]
        ip("netns", "add", self._namespace)
        self.fd = self._inside(lambda: open_tun("path0", mtu=MTU, offload=False).detach())
        inside = ("-n", self._namespace)
        ip(*inside, "link", "set", "lo", "up")
        ip(*inside, "link", "set", "path0", "up", "txqueuelen", "10000")
        ip(*inside, "address", "add", f"{self._address}/24", "dev", "path0")

    def _inside(self, work: Callable[[], T]) -> T:
        done: list[T] = []

        def enter() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{self._namespace}", "rb") as namespace:
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            done.append(work())

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return done[0]

    def start(self) -> None:
        """The device exists already."""

    def connect(self, to: str) -> socket.socket:
        """Made in the namespace, used here."""
        return self._inside(lambda: socket.create_connection((to, PORT), 20))

    def listen(self) -> Callable[[], socket.socket]:
        """On the end's address."""
        listener = self._inside(lambda: socket.create_server((self._address, PORT)))
        return lambda: listener.accept()[0]

    def close(self) -> None:
        """The device goes with the namespace."""
        with contextlib.suppress(OSError):
            os.close(self.fd)
        ip("netns", "delete", self._namespace)


class StackEnd:
    """The userspace stack."""

    vnet = True

    def __init__(self, number: int) -> None:
        self._address = ADDRESSES[number]
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (mine, theirs):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, 32, 8 << 20)  # SO_SNDBUFFORCE
        self.fd = theirs.detach()
        self._mine = mine

    def start(self) -> None:
        """Its thread."""
        self._stack = Netstack(self._mine.detach())
        self._stack.set_addresses([self._address])

    def _wait(self, kind: EventKind) -> int:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            select.select([self._stack.event_fd()], [], [], 1)
            for event in self._stack.take_events(1):
                if event[0] == kind:
                    return event[1]
        sys.exit(f"no {kind.name} within 20 s")

    def _join(self, stream: int) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._stack.join(stream, theirs.detach())
        return ours

    def connect(self, to: str) -> socket.socket:
        """Dialled by the stack."""
        self._stack.dial(self._address, f"{to}:{PORT}")
        return self._join(self._wait(EventKind.CONNECTED))

    def listen(self) -> Callable[[], socket.socket]:
        """It takes every port."""
        return lambda: self._join(self._wait(EventKind.SYN))

    def close(self) -> None:
        """End the thread."""
        with contextlib.suppress(OSError):
            os.close(self.fd)
        self._stack.stop()


MAKERS: dict[str, Callable[[int], End]] = {SYSTEM: KernelEnd, OURS: StackEnd}


def ip(*words: str) -> None:
    """Configure the system."""
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def path(kinds: tuple[str, str], spec: PathSpec) -> Iterator[tuple[End, End]]:
    """Both ends, and a process between them."""
    with contextlib.ExitStack() as stack:
        made = []
        for number, kind in enumerate(kinds):
            end = MAKERS[kind](number)
            stack.callback(end.close)
            made.append(end)
        one, two = made
        child = os.fork()
        if child == 0:
            try:
                forward(spec, (one.fd, two.fd), (one.vnet, two.vnet))
            finally:
                os._exit(1)
        stack.callback(os.waitpid, child, 0)
        stack.callback(os.kill, child, signal.SIGKILL)
        for end in made:
            end.start()
        yield one, two


def stream(kinds: tuple[str, str], spec: PathSpec, seconds: float, control: str) -> float:
    """Mbit/s that one stream from the first to the second end carried."""
    with path(kinds, spec) as (sender, receiver):
        accept = receiver.listen()
        got: list[int] = []
        begun = threading.Event()

        def receive() -> None:
            with accept() as connection:
                begun.set()
                buffer = bytearray(1 << 20)
                connection.settimeout(30)
                with contextlib.suppress(OSError):
                    while count := connection.recv_into(buffer):
                        got.append(count)

        receiving = threading.Thread(target=receive, daemon=True)
        receiving.start()
        with sender.connect(ADDRESSES[1]) as connection:
            if kinds[0] == SYSTEM:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
            begun.wait(20)
            start = time.monotonic()
            block = bytes(BLOCK)
            connection.settimeout(0.2)
            while time.monotonic() - start < seconds:
                with contextlib.suppress(TimeoutError):
                    connection.send(block)
            total, taken = sum(got), time.monotonic() - start
            connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0) + (0,) * 4)
            )
    return total * 8 / taken / 1e6


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="integration.bench.impaired", description=__doc__)
    parser.add_argument("--loss", type=float, nargs="*", default=[0.0, 0.1, 1.0])
    parser.add_argument("--delay", type=float, default=20.0, help="round trip [ms]")
    parser.add_argument("--rate", type=float, default=100.0, help="of the bottleneck [Mbit/s]")
    parser.add_argument("--queue", type=int, default=250, help="packets")
    parser.add_argument("--congestion", default="cubic", help="control of the kernel's senders")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    pairs = ((SYSTEM, SYSTEM), (OURS, SYSTEM), (SYSTEM, OURS))
    for loss in a.loss:
        figures: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
        for number in range(a.rounds):
            seed = a.seed + 2 * number
            spec = PathSpec(loss / 100, a.delay / 2000, a.rate * 125_000, a.queue, seed)
            for pair in pairs:
                figures[pair].append(stream(pair, spec, a.seconds, a.congestion))
        for (sender, receiver), all_of_it in figures.items():
            low, mid, high = min(all_of_it), statistics.median(all_of_it), max(all_of_it)
            label = f"loss {loss:g} %  {sender} → {receiver}"
            sys.stdout.write(f"{label:<36}{low:7.1f} {mid:7.1f} {high:7.1f} Mbit/s\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
