"""A machine's link with loss, delay, reordering and duplicates, made in user space.

Kernels without ``netem`` have none of these.  A process holds both ends of the link, two TAP
devices, and carries frames between them::

    host: eth0 (TAP) ── this process ── bad-h1 (TAP) ── br0 of the segment

ARP passes untouched: a machine that cannot resolve its neighbours tests nothing.  The randomness
has a seed, so two runs of the same traffic lose the same frames.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.net import BRIDGE
from integration.lab.process import LabError, Process, run
from integration.lab.translator import UPLINK

MODULE = (sys.executable, "-m", "integration.lab.bad_link")
ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT = 10.0  # seconds
MAX_FRAME = 1 << 16
QUEUE = 2000  # frames that fly at once in one direction
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
ARP = b"\x08\x06"


@dataclass(frozen=True, slots=True)
class Badness:
    """What the link does to frames, in each direction.

    Attributes:
        loss: share that is lost, 0 to 1.
        delay: seconds each takes at least.
        spread: seconds that some take more, at random: later frames overtake them.
        duplication: share that comes twice.
    """

    loss: float = 0.0
    delay: float = 0.0
    spread: float = 0.0
    duplication: float = 0.0


GOOD = Badness()


class Direction:
    """Frames under way to one end."""

    def __init__(self, seed: int, sink: int) -> None:
        self._random = random.Random(seed)
        self._sink = sink
        self._number = count()
        self._flying: list[tuple[float, int, bytes]] = []

    def take(self, frame: bytes, bad: Badness, now: float) -> None:
        """A frame enters the link."""
        if frame[12:14] == ARP:
            bad = GOOD
        if self._random.random() < bad.loss:
            return
        for _ in range(2 if self._random.random() < bad.duplication else 1):
            if len(self._flying) < QUEUE:
                due = now + bad.delay + self._random.random() * bad.spread
                heapq.heappush(self._flying, (due, next(self._number), frame))

    def deliver(self, now: float) -> float | None:
        """Write what has arrived; when the next frame does."""
        while self._flying:
            due, _, frame = self._flying[0]
            if due > now:
                return due
            heapq.heappop(self._flying)
            with suppress(OSError):  # the end is down, or full
                os.write(self._sink, frame)
        return None


class BadLink:
    """Replaces a host's link; made between the lab's start and the host's daemon's.

    It ends with the lab.
    """

    def __init__(self, lab: Lab, host: Host, *, seed: int = 1) -> None:
        """Raises :class:`LabError` if the devices cannot be made."""
        spec = next(each for each in lab.topology.hosts if each.name == host.name)
        inside, segment = host.namespace, lab.network.internet
        self._control = lab.directory / f"bad-{host.name}.sock"
        outer = f"bad-{host.name}"
        run(["ip", "-n", segment, "link", "delete", f"v-{host.name}"])
        self._process = Process(
            f"the bad link of {host.name}",
            [*MODULE, str(self._control), segment, outer, inside, UPLINK, str(seed)],
            lab.directory / f"bad-{host.name}.log",
            directory=ROOT,
            announces=True,
        )
        lab.adopt(self._process)
        if (said := self._process.announcement(READY_TIMEOUT)) != "ready":
            msg = f"the bad link said {said!r}"
            raise LabError(msg)
        addresses = [spec.ipv4, *([] if spec.ipv6 is None else [spec.ipv6])]
        for address in addresses:
            words = ["nodad"] if address.version == 6 else []
            run(["ip", "-n", inside, "address", "add", str(address), "dev", UPLINK, *words])
        run(["ip", "-n", inside, "link", "set", UPLINK, "up"])
        run(["ip", "-n", segment, "link", "set", outer, "master", BRIDGE, "up"])

    def set(self, bad: Badness) -> None:
        """What it does from now on."""
        self._process.check()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            asking.sendto(json.dumps(asdict(bad)).encode(), str(self._control))


def open_tap(name: str) -> int:
    """A TAP device of this network namespace, non-blocking."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def enter(namespace: str) -> None:
    """Make it the network namespace of this thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def carry(inner: int, outer: int, control: socket.socket, seed: int) -> None:
    """Until killed."""
    bad = GOOD
    ways = {inner: Direction(seed, outer), outer: Direction(seed + 1, inner)}
    poll = select.poll()
    for source in (inner, outer, control.fileno()):
        poll.register(source, select.POLLIN)
    while True:
        now = time.monotonic()
        due = [at for way in ways.values() if (at := way.deliver(now)) is not None]
        wait = max(0.0, min(due) - now) * 1000 if due else None
        ready = {source for source, _ in poll.poll(wait)}
        if control.fileno() in ready:
            bad = Badness(**json.loads(control.recv(4096)))
        now = time.monotonic()
        for source, way in ways.items():
            with suppress(OSError):  # nothing more there, or the device is down
                for _ in range(64 if source in ready else 0):
                    way.take(os.read(source, MAX_FRAME), bad, now)


def main() -> None:
    """``SOCKET NAMESPACE DEVICE NAMESPACE DEVICE SEED``: the ends to make."""
    path, *ends, seed = sys.argv[1:]
    control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    control.bind(path)
    made = []
    for namespace, device in (ends[:2], ends[2:]):
        enter(namespace)
        made.append(open_tap(device))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    carry(made[0], made[1], control, int(seed))


if __name__ == "__main__":
    main()
