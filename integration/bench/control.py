"""A node in a large tailnet: how long until it runs, what a change costs, how much memory it takes.

    python -m integration.bench.control [--peers 100,1000,10000] [--seconds 6]
                                        [--native] [--router] [--svg FILE]

For each size: a control server and a relay in one process, and a whole node (control session,
plan, magicsock, WireGuard engine, datapath; only TUN device and routes are doubles) in another.
Peers have the fields that a real server sends, about 1 KB of JSON each.  No privilege is needed but
for ``--router``, which takes the kernel's routes and TUN device, in a network namespace of its own.
``--native`` takes the datapath in Rust.

``map → Running``: from the first byte of the map to the state Running with all peers in the tables;
on a busy machine look at its CPU.
``block``: the longest single callback of the event loop in each phase, and what it was: the map
until Running, the 3 s after it (routes, the kept map), a status for the LocalAPI, the same map
again after a lost connection, single deltas, churn.  ``memory``: growth of the resident set
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

from integration.bench.plot import plot
from msgspec.structs import replace

from tailnet.agent import clock
from tailnet.agent.addr import IPNetwork
from tailnet.agent.backend.aio import Node, NodeSettings
from tailnet.agent.backend.events import NetworkMapChanged, NodeEvent
from tailnet.agent.backend.files.aio import StateFile
from tailnet.agent.backend.login import Host
from tailnet.agent.backend.state import State
from tailnet.agent.control.session import MapSession
from tailnet.agent.datapath.interface import Datapath
from tailnet.agent.datapath.native import NativeDatapath
from tailnet.agent.datapath.reference.aio import ReferenceDatapath
from tailnet.agent.dns.forward.aio import Forwarder
from tailnet.agent.dns.resolver.aio import MagicDns
from tailnet.agent.dns.upstream import Https
from tailnet.agent.keys import DiscoPublic, MachinePublic, NodePublic
from tailnet.agent.localapi.schema import encode
from tailnet.agent.localapi.view.aio import NodeView
from tailnet.agent.netstack.interface import Connection
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
from tailnet.platform.fake import (
    FakeBypass,
    FakeDns,
    FakeFirewall,
    FakeGateways,
    FakeRouter,
    FakeTun,
)
from tailnet.platform.interface import Bypass, Gateways, Router, TunDevice
from tailnet.platform.linux.router import LinuxRouter
from tailnet.platform.linux.tun import open_tun

AUTH_KEY = "tskey-auth-bench"
REGION = 900
USERS = 200
KINDS = ("endpoints", "relay", "online", "disco", "key", "whole", "removed", "added", "routes")
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


async def no_https(to: Https, message: bytes) -> bytes:
    """Nobody is asked by HTTP."""
    del to, message
    raise OSError


class System:
    """A machine without a kernel."""

    def __init__(self, *, native: bool, router: bool) -> None:
        self.host = Host(hostname="bench")
        self.bypass: Bypass = FakeBypass()
        self.gateways: Gateways = FakeGateways()
        self._native = native
        self._router = router
        self._tun = Tun()

    def open_tun(self, queues: int) -> TunDevice:
        """The device; the kernel's with its router."""
        del queues
        return open_tun("tailnet0") if self._router else self._tun

    def make_router(self, tun_name: str) -> Router:
        """The kernel's, or one that remembers, and that is all."""
        return LinuxRouter(tun_name) if self._router else FakeRouter()

    def make_firewall(self, tun_name: str) -> FakeFirewall:
        """It remembers, and that is all."""
        del tun_name
        return FakeFirewall()

    def make_dns(self, tun_name: str) -> FakeDns:
        """Remembers, and that is all."""
        del tun_name
        return FakeDns()

    def make_datapath(self) -> Datapath:
        """In Rust or in Python."""
        return NativeDatapath() if self._native else ReferenceDatapath(now=clock.now)

    def local_networks(self) -> tuple[IPNetwork, ...]:
        """None."""
        return ()

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
    blocks: dict[str, tuple[float, str]] = field(default_factory=dict)  # by phase
    reconnect_cpu: float = 0.0
    status: float = 0.0
    resident: int = 0
    per_delta: dict[str, float] = field(default_factory=dict)
    churn_cpu: float = 0.0


class Blocks:
    """Times every callback of the event loop; keeps the longest of each phase."""

    def __init__(self) -> None:
        self._longest = (0.0, "nothing")
        self._collected = False
        gc.callbacks.append(self._note_collection)
        inner = asyncio.events.Handle._run

        def run(handle: asyncio.Handle) -> None:
            self._collected = False
            began, busy = time.perf_counter(), time.thread_time()
            callback = handle._callback  # type: ignore[attr-defined]
            inner(handle)
            took, busy = time.perf_counter() - began, time.thread_time() - busy
            if took > self._longest[0]:
                what = f"{busy * 1e3:.0f} of CPU; {_name(callback)}"
                self._longest = (took, what + " + gc" * self._collected)

        asyncio.events.Handle._run = run  # type: ignore[assignment]

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        self._collected |= phase == "stop" and info["generation"] == 2

    def take(self) -> tuple[float, str]:
        """The longest since the last call [s], and what ran."""
        longest, self._longest = self._longest, (0.0, "nothing")
        return longest


def _name(callback: object) -> str:
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return f"task {owner.get_name()}"
    return getattr(callback, "__qualname__", type(callback).__name__)


class Client:
    """A node, and when it did what."""

    def __init__(self, system: System, directory: Path) -> None:
        self.maps = 0
        self._news = asyncio.Event()
        self.node = Node(
            system,
            NodeSettings(),
            StateFile(directory / "bench.state"),
            MagicDns(Forwarder(no_https, random_bytes=os.urandom), lambda: 0.0),
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


async def measure(peers: int, seconds: float, directory: Path, system: System) -> Result:
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
    client = Client(system, directory)
    await client.node.start()
    _ = blocks.take()
    wanted = {"ControlURL": url, "ControlURLSet": True}
    await client.node.account.login(wanted, AUTH_KEY)
    await client.running(peers)
    result.map_to_running = time.perf_counter() - arrivals[0][0]
    result.map_cpu = time.process_time() - arrivals[0][1]
    result.blocks["map"] = blocks.take()
    await asyncio.sleep(3.0)  # endpoints, routes, the kept map, garbage
    result.blocks["after"] = blocks.take()
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
        view = NodeView(client.node, version="bench", dial=_no_dial)
        began = time.perf_counter()
        _ = encode(await view.status(peers=True))
        result.status = time.perf_counter() - began
        result.blocks["status"] = blocks.take()
        spent, maps = time.process_time(), client.maps
        session = client.node.account._contact._session
        assert session is not None
        session.client.poke()
        await client.heard(maps + 1)
        await asyncio.sleep(1.0)
        result.reconnect_cpu = time.process_time() - spent
        result.blocks["reconnect"] = blocks.take()
        for kind in KINDS:
            result.per_delta[kind] = await deltas(kind, ROUNDS, RATE) / ROUNDS
        result.blocks["deltas"] = blocks.take()
        # At 10,001 peers one route for all takes the place of 10,000: not what is measured here.
        await deltas("removed", min(peers // 2, ROUNDS), RATE)
        _ = blocks.take()
        began = time.perf_counter()
        spent = await deltas("mixed", int(seconds * RATE), RATE)
        result.churn_cpu = spent / (time.perf_counter() - began)
        result.blocks["churn"] = blocks.take()
    await client.node.close()
    server.stdin.close()
    await server.wait()
    return result


async def _no_dial(host: str, port: int) -> Connection:
    raise NotImplementedError((host, port))


def resident() -> int:
    """Resident memory of this process [bytes]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def table(results: list[Result]) -> str:
    """For people, in the form of docs/performance.md."""
    empty, *rest = results
    head = "peers|map → Running, s|its CPU, s|the same again, CPU s|status, s|memory per peer, KB"
    head += "|dearest delta, CPU ms|churn of 50/s, CPU"
    rows = [f"|{head}|", "|---" * 8 + "|"]
    for one in rest:
        memory = (one.resident - empty.resident) / one.peers / 1000
        rows.append(
            f"| {one.peers:,} | {one.map_to_running:.2f} | {one.map_cpu:.2f} "
            f"| {one.reconnect_cpu:.2f} | {one.status:.2f} | {memory:.1f} "
            f"| {max(one.per_delta.values()) * 1e3:.1f} | {one.churn_cpu:.0%} |"
        )
    phases = list(rest[0].blocks) if rest else []
    rows += ["", "Longest block, ms:", "| peers | " + " | ".join(phases) + " |"]
    rows.append("|---" * (len(phases) + 1) + "|")
    for one in rest:
        cells = (f"{one.blocks[p][0] * 1e3:.0f} ({one.blocks[p][1]})" for p in phases)
        rows.append(f"| {one.peers:,} | " + " | ".join(cells) + " |")
    rows += ["", "CPU ms per delta:", "| peers | " + " | ".join(KINDS) + " |"]
    rows.append("|---" * (len(KINDS) + 1) + "|")
    for one in rest:
        costs = " | ".join(f"{one.per_delta[kind] * 1e3:.1f}" for kind in KINDS)
        rows.append(f"| {one.peers:,} | {costs} |")
    return "\n".join(rows)


def growth(results: list[Result]) -> dict[str, list[tuple[int, float]]]:
    """Lines of the plot: what is measured, by number of peers."""
    empty, *rest = results
    return {
        "CPU until Running, ms": [(one.peers, one.map_cpu * 1e3) for one in rest],
        "memory, MB": [(one.peers, (one.resident - empty.resident) / 1e6) for one in rest],
        "dearest delta, CPU ms": [(one.peers, max(one.per_delta.values()) * 1e3) for one in rest],
        "longest block until Running, ms": [
            (one.peers, one.blocks["map"][0] * 1e3) for one in rest
        ],
    }


def main() -> None:
    """Measure every size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", default="100,1000,10000")
    parser.add_argument("--seconds", type=float, default=6.0, help="of churn")
    parser.add_argument("--native", action="store_true", help="the datapath in Rust")
    parser.add_argument("--router", action="store_true", help="the kernel's routes; needs root")
    parser.add_argument("--svg", type=Path, help="plot the growth into this file")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        with tempfile.TemporaryDirectory() as directory:
            system = System(native=options.native, router=options.router)
            made = asyncio.run(measure(options.one, options.seconds, Path(directory), system))
        sys.stdout.write(json.dumps(asdict(made)))
        return
    switches = [f"--{name}" for name in ("native", "router") if getattr(options, name)]
    namespace = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    namespace = namespace if options.router else []
    results = []
    for size in (0, *map(int, options.peers.split(","))):
        command = [*namespace, sys.executable, "-m", "integration.bench.control", f"--one={size}"]
        command += [f"--seconds={options.seconds}", *switches]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        results.append(Result(**json.loads(out)))
        sys.stderr.write(f"{size} peers done\n")
    sys.stdout.write(table(results) + "\n")
    if options.svg is not None:
        options.svg.write_text(plot(growth(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
