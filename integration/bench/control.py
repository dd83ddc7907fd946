"""A node in a large tailnet: how long until it runs, what a change costs, how much memory it takes.

    python -m integration.bench.control [--peers 100,1000,10000] [--seconds 6]

For each size: a control server and a relay in one process, and a whole node (control session,
plan, magicsock, WireGuard engine, datapath; only TUN device and routes are doubles) in another.
Peers have the fields that a real server sends, about 1 KB of JSON each.  No privilege is needed.

``map → Running``: from the first byte of the map to the state Running with all peers in the tables;
on a busy machine look at its CPU.
``block``: the longest single callback of the event loop.  ``memory``: growth of the resident set
over that of a node without peers.  CPU is that of the node's process, all threads.
"""

import argparse
import asyncio
import ctypes
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from tailnet.agent import clock
from tailnet.agent.backend.aio import Node, NodeSettings
from tailnet.agent.backend.events import NetworkMapChanged, NodeEvent
from tailnet.agent.backend.files.aio import StateFile
from tailnet.agent.backend.login import Host
from tailnet.agent.backend.state import State
from tailnet.agent.control.session import MapSession
from tailnet.agent.datapath.reference.aio import ReferenceDatapath
from tailnet.agent.keys import DiscoPublic, MachinePublic, NodePublic
from tailnet.agent.tailcfg.mapping import MapResponse
from tailnet.agent.tailcfg.node import (
    Hostinfo,
    NetInfo,
    NodeID,
    PeerChange,
    StableNodeID,
    UserID,
    UserProfile,
)
from tailnet.agent.tailcfg.node import Node as Peer
from tailnet.platform.fake import FakeBypass, FakeRouter, FakeTun
from tailnet.platform.interface import Bypass

AUTH_KEY = "tskey-auth-bench"
REGION = 900
USERS = 200
KINDS = ("endpoints", "relay", "online", "disco", "key", "whole", "added", "removed", "routes")
ROUNDS = 25  # deltas of each kind
RATE = 50.0  # deltas per second
PATIENCE = 60.0  # seconds


class Peers:
    """A crowd, and changes to it; the same crowd every time."""

    def __init__(self, count: int) -> None:
        self._random = random.Random(count)
        self._next = 1000
        self.users = tuple(
            UserProfile(
                id=UserID(5000 + n),
                login_name=f"user{n}@example.com",
                display_name=f"User Number {n}",
                profile_pic_url=f"https://pictures.example.com/{n}.png",
            )
            for n in range(USERS if count else 0)
        )
        self.nodes: dict[NodeID, Peer] = {}
        for _ in range(count):
            peer = self._new()
            self.nodes[peer.id] = peer

    def _new(self) -> Peer:
        """One more peer; one in twenty is a subnet router."""
        number = self._next
        self._next += 1
        make, rest = self._random.randbytes, number & 0xFFFF
        high, low = 64 + number // 65_536, f"{rest >> 8}.{rest & 255}"
        own = (f"100.{high}.{low}/32", f"fd7a:115c:a1e0::{number:x}/128")
        subnet = (f"10.{low}.0/24",) if number % 20 == 0 else ()
        seen = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
        return Peer(
            id=NodeID(number),
            stable_id=StableNodeID(f"n{number}CNTRL"),
            name=f"machine-{number}.tail1234.ts.net.",
            user=UserID(5000 + number % USERS),
            key=NodePublic(make(32)),
            key_expiry=seen + timedelta(days=20_000),
            machine=MachinePublic(make(32)),
            disco_key=DiscoPublic(make(32)),
            addresses=own,
            allowed_ips=own + subnet,
            primary_routes=subnet or None,
            endpoints=tuple(self._endpoint() for _ in range(4)),
            home_derp=REGION,
            hostinfo=Hostinfo(
                os="linux",
                os_version="6.12.0",
                hostname=f"machine-{number}",
                net_info=NetInfo(preferred_derp=REGION, working_udp=True),
            ),
            created=seen,
            cap=130,
            online=True,
            machine_authorized=True,
            cap_map={
                "https://tailscale.com/cap/is-admin": None,
                "https://tailscale.com/cap/file-sharing": None,
                "probe-udp-lifetime": None,
                "store-appc-routes": None,
            },
        )

    def _endpoint(self) -> str:
        a, b, c, port = (self._random.randrange(1, 254) for _ in range(4))
        return f"198.{a}.{b}.{c}:{40_000 + port}"

    def delta(self, kind: str) -> MapResponse:
        """A message with one change of that kind; ``mixed`` is any."""
        if kind == "mixed":
            kind = self._random.choice(KINDS)
        peer = self.nodes[self._random.choice(list(self.nodes))]
        make = self._random.randbytes
        match kind:
            case "endpoints":
                fresh = tuple(self._endpoint() for _ in range(4))
                return _patch(PeerChange(node_id=peer.id, endpoints=fresh))
            case "relay":
                return _patch(PeerChange(node_id=peer.id, derp_region=REGION + 1))
            case "disco":
                return _patch(PeerChange(node_id=peer.id, disco_key=DiscoPublic(make(32))))
            case "key":
                return _patch(PeerChange(node_id=peer.id, key=NodePublic(make(32))))
            case "online":
                return MapResponse(online_change={peer.id: bool(self._random.getrandbits(1))})
            case "removed":
                del self.nodes[peer.id]
                return MapResponse(peers_removed=(peer.id,))
            case "added":
                peer = self._new()
            case "routes":
                number = self._random.randrange(1 << 14)
                subnet = (f"172.20.{number >> 6}.{(number & 63) << 2}/30",)
                peer = replace(peer, allowed_ips=(*(peer.addresses or ()), *subnet))
            case _:
                peer = replace(peer, hostinfo=Hostinfo(os="linux", hostname=make(4).hex()))
        self.nodes[peer.id] = peer
        return MapResponse(peers_changed=(peer,))


def _patch(change: PeerChange) -> MapResponse:
    return MapResponse(peers_changed_patch=(change,))


class Tun(FakeTun):
    """Its far side stays open when the daemon has taken the descriptor."""

    def close(self) -> None:
        """Nothing."""


class System:
    """A machine without a kernel."""

    def __init__(self) -> None:
        self.host = Host(hostname="bench")
        self.bypass: Bypass = FakeBypass()
        self.router = FakeRouter()
        self.tun = Tun()

    def open_tun(self) -> FakeTun:
        """The device."""
        return self.tun

    def make_router(self, tun_name: str) -> FakeRouter:
        """It remembers, and that is all."""
        del tun_name
        return self.router

    def make_datapath(self) -> ReferenceDatapath:
        """The pure-Python one."""
        return ReferenceDatapath(now=clock.now)

    def forwarding_problem(self, *, v4: bool, v6: bool) -> str:
        """None."""
        del v4, v6
        return ""


@dataclass(slots=True)
class Result:
    """What was measured at one size.  Seconds, bytes, and CPU seconds."""

    peers: int
    map_to_running: float = 0.0
    map_cpu: float = 0.0
    block: float = 0.0
    block_churn: float = 0.0
    resident: int = 0
    per_delta: dict[str, float] = field(default_factory=dict)
    churn_cpu: float = 0.0


class Blocks:
    """Times every callback of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        inner = asyncio.events.Handle._run

        def run(handle: asyncio.Handle) -> None:
            began = time.perf_counter()
            inner(handle)
            self.longest = max(self.longest, time.perf_counter() - began)

        asyncio.events.Handle._run = run  # type: ignore[assignment]

    def take(self) -> float:
        """The longest since the last call."""
        longest, self.longest = self.longest, 0.0
        return longest


class Client:
    """A node, and when it did what."""

    def __init__(self, directory: Path) -> None:
        self.maps = 0
        self._news = asyncio.Event()
        self.node = Node(
            System(),
            NodeSettings(),
            StateFile(directory / "bench.state"),
            now=clock.now,
            wall=clock.wall,
            random_bytes=os.urandom,
            on_failed=sys.exit,
        )
        self.node.watch(self._hear)

    def _hear(self, event: NodeEvent) -> None:
        self.maps += isinstance(event, NetworkMapChanged)
        self._news.set()

    async def running(self, peers: int) -> None:
        """Return when it runs with that many peers in the tables."""
        async with asyncio.timeout(PATIENCE):
            while self.node.state is not State.RUNNING or len(self.node.plan.peers) < peers:  # type: ignore[union-attr]
                self._news.clear()
                await self._news.wait()

    async def heard(self, maps: int) -> None:
        """Return when that many maps came."""
        async with asyncio.timeout(PATIENCE):
            while self.maps < maps:
                self._news.clear()
                await self._news.wait()


async def measure(peers: int, seconds: float, directory: Path) -> Result:
    """One size, in a process of its own."""
    result, blocks = Result(peers), Blocks()
    arrivals: list[tuple[float, float]] = []
    inner = MapSession.receive_untrusted

    def receive(self: MapSession, data: bytes, now: float, wall: datetime) -> None:
        arrivals.append((time.perf_counter(), time.process_time()))
        inner(self, data, now, wall)

    MapSession.receive_untrusted = receive  # type: ignore[method-assign]
    command = [sys.executable, "-m", "integration.bench.control_server", str(peers)]
    server = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    url = (await server.stdout.readline()).decode().strip()
    client = Client(directory)
    await client.node.start()
    blocks.take()
    wanted = {"ControlURL": url, "ControlURLSet": True}
    await client.node.account.login(wanted, AUTH_KEY)
    await client.running(peers)
    result.map_to_running = time.perf_counter() - arrivals[0][0]
    result.map_cpu = time.process_time() - arrivals[0][1]
    await asyncio.sleep(3.0)  # endpoints, the kept map, garbage
    result.block = blocks.take()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    result.resident = resident()

    async def deltas(kind: str, count: int, rate: float) -> float:
        assert server.stdin is not None
        assert server.stdout is not None
        expected, began = client.maps + count, time.process_time()
        server.stdin.write(json.dumps([kind, count, rate]).encode() + b"\n")
        await server.stdout.readline()
        await client.heard(expected)
        return time.process_time() - began

    if peers:
        for kind in KINDS:
            result.per_delta[kind] = await deltas(kind, ROUNDS, RATE) / ROUNDS
        blocks.take()
        began = time.perf_counter()
        spent = await deltas("mixed", int(seconds * RATE), RATE)
        result.churn_cpu = spent / (time.perf_counter() - began)
        result.block_churn = blocks.take()
    await client.node.close()
    server.stdin.close()
    await server.wait()
    return result


def resident() -> int:
    """Resident memory of this process [bytes]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def table(results: list[Result]) -> str:
    """For people, in the form of docs/performance.md."""
    empty, *rest = results
    head = "peers|map → Running, s|its CPU, s|block, ms|block in churn, ms|memory per peer, KB"
    head += "|dearest delta, CPU ms|churn of 50/s, CPU"
    rows = [f"|{head}|", "|---" * 8 + "|"]
    for one in rest:
        memory = (one.resident - empty.resident) / one.peers / 1000
        rows.append(
            f"| {one.peers:,} | {one.map_to_running:.2f} | {one.map_cpu:.2f} "
            f"| {one.block * 1e3:.0f} | {one.block_churn * 1e3:.0f} | {memory:.1f} "
            f"| {max(one.per_delta.values()) * 1e3:.1f} | {one.churn_cpu:.0%} |"
        )
    rows += ["", "CPU ms per delta:", "| peers | " + " | ".join(KINDS) + " |"]
    rows.append("|---" * (len(KINDS) + 1) + "|")
    for one in rest:
        costs = " | ".join(f"{one.per_delta[kind] * 1e3:.1f}" for kind in KINDS)
        rows.append(f"| {one.peers:,} | {costs} |")
    return "\n".join(rows)


def main() -> None:
    """Measure every size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", default="100,1000,10000")
    parser.add_argument("--seconds", type=float, default=6.0, help="of churn")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        with tempfile.TemporaryDirectory() as directory:
            made = asyncio.run(measure(options.one, options.seconds, Path(directory)))
        sys.stdout.write(json.dumps(asdict(made)))
        return
    results = []
    for size in (0, *map(int, options.peers.split(","))):
        command = [sys.executable, "-m", "integration.bench.control", f"--one={size}"]
        out = subprocess.run(
            [*command, f"--seconds={options.seconds}"], check=True, stdout=subprocess.PIPE
        ).stdout
        results.append(Result(**json.loads(out)))
        sys.stderr.write(f"{size} peers done\n")
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
