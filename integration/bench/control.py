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
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from integration.bench.blocks import Blocks
from integration.bench.crowd import KINDS
from integration.bench.growth import Result, growth, table
from integration.bench.machine import System, no_https
from integration.bench.plot import plot

from tailnet.agent import clock
from tailnet.agent.backend.aio import Node, NodeSettings
from tailnet.agent.backend.events import NetworkMapChanged, NodeEvent
from tailnet.agent.backend.files.aio import StateFile
from tailnet.agent.backend.state import State
from tailnet.agent.control.fold import Change, Folder
from tailnet.agent.control.session import MapSession
from tailnet.agent.dns.forward.aio import Forwarder
from tailnet.agent.dns.resolver.aio import MagicDns
from tailnet.agent.localapi.schema.basics import encode
from tailnet.agent.localapi.view.aio import NodeView
from tailnet.agent.netstack.interface import Connection
from tailnet.agent.slices import Steps
from tailnet.agent.tailcfg.mapping import MapResponse
from tailnet.platform.absent import NoBypass

AUTH_KEY = "tskey-auth-bench"
ROUNDS = 25  # deltas of each kind
RATE = 50.0  # deltas per second
PATIENCE = 60.0  # seconds


class Client:
    """A node, and when it did what."""

    def __init__(self, system: System, directory: Path) -> None:
        self.maps = self.folded = 0
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

    async def heard(self, *, maps: int = 0, folded: int = 0) -> None:
        """Return when that many maps were told, and as many messages folded into them."""
        async with asyncio.timeout(PATIENCE):
            while self.maps < maps or self.folded < folded:
                self._news.clear()
                await self._news.wait()

    def count_folded(self) -> None:
        """Count messages from now on: those that come together are told as one map."""
        inner = Folder.fold_slices

        def fold(folder: Folder, message: MapResponse, today: datetime) -> Steps[Change]:
            self.folded += 1
            return inner(folder, message, today)

        Folder.fold_slices = fold  # type: ignore[assignment, method-assign]


async def measure(peers: int, seconds: float, directory: Path, system: System) -> Result:
    """One size, in a process of its own."""
    result, blocks = Result(peers), Blocks()
    arrivals: list[tuple[float, float]] = []
    inner = MapSession.receive_untrusted

    def receive(self: MapSession, data: bytes, now: float) -> None:
        arrivals.append((time.perf_counter(), time.process_time()))
        inner(self, data, now)

    MapSession.receive_untrusted = receive  # type: ignore[method-assign]
    command = [sys.executable, "-m", "integration.bench.control_server", str(peers)]
    server = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    url = (await server.stdout.readline()).decode().strip()
    client = Client(system, directory)
    client.count_folded()
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
        expected, began = client.folded + count, time.process_time()
        server.stdin.write(json.dumps([kind, count, rate]).encode() + b"\n")
        await server.stdout.readline()
        await client.heard(folded=expected)
        return time.process_time() - began

    if peers:
        view = NodeView(client.node, version="bench", dial=_no_dial, bypass=NoBypass())
        began = time.perf_counter()
        _ = encode(await view.status(peers=True))
        result.status = time.perf_counter() - began
        result.blocks["status"] = blocks.take()
        spent, maps = time.process_time(), client.maps
        session = client.node.account.line.contact._session
        assert session is not None
        session.client.poke()
        await client.heard(maps=maps + 1)
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
