"""The datapaths alone, side by side with wireguard-go.

    python -m integration.bench.datapath [--rounds 3] [--seconds 5] [--what tcp|udp|stall]

Two namespaces joined by a veth pair; in each a TUN device of MTU 1280, served by one process.
Ours runs the datapath alone, with static sessions and no daemon.  Both are measured in turn, in
rounds, so that a busy machine hurts both alike.  Needs root, iperf3, wireguard-go and wg.

Prints Gbit/s and CPU seconds per GB of the two tunnel processes, or round-trip times with and
without Python's lock held for 200 ms at a time, and the ratios.  Whole daemons:
``integration.bench.throughput``.
"""

import argparse
import asyncio
import contextlib
import cProfile
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path as FilePath

from integration.bench.measures import HOLDING, Ends, Sample, bulk, ended, stall
from integration.bench.table import brief, report, say

from tailnet.agent import clock
from tailnet.agent.addr import AddrPort
from tailnet.agent.datapath.interface import (
    Datapath,
    Path,
    PeerEntry,
    Session,
    TunPort,
    UdpPort,
)
from tailnet.agent.datapath.native import NativeDatapath, why_not
from tailnet.agent.datapath.reference.aio import ReferenceDatapath
from tailnet.agent.filter.rules import compile_filter
from tailnet.agent.keys import PeerId
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange
from tailnet.platform.linux.tun import open_tun

MTU = 1280
PORT = 41641
TUN = "bench0"
KEYS = (bytes(range(32)), bytes(range(32, 64)))
NETNS = [f"dpbench{os.getpid()}{side}" for side in "ab"]
OUTER = ("10.99.0.1", "10.99.0.2")
INNER = ("100.64.0.1", "100.64.0.2")


# --- one end, in a process of its own ----------------------------------------


def open_udp() -> UdpPort:
    """A UDP socket with GSO, GRO and large buffers."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    for force, plain in ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, 7 << 20)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, plain, 7 << 20)
    sock.setsockopt(socket.IPPROTO_UDP, 104, 1)
    sock.bind(("0.0.0.0", PORT))
    return UdpPort(sock.detach(), socket.AF_INET, gso=True, gro=True)


def make_datapath(name: str) -> Datapath:
    """An implementation by its name."""
    return NativeDatapath() if name == "native" else ReferenceDatapath(now=clock.now)


async def serve(side: int, name: str, *, offload: bool) -> None:
    """Carry packets until SIGTERM."""
    tun = open_tun(TUN, mtu=MTU, offload=offload)
    datapath = make_datapath(name)
    peer = PeerId(1)
    everything = NetPortRange(ip="*", ports=PortRange(0, 65535))
    datapath.set_peers({peer: PeerEntry((ip_network(INNER[1 - side]),))})
    datapath.set_local([ip_network(INNER[side])])
    datapath.set_filter(compile_filter([FilterRule(src_ips=("*",), dst_ports=(everything,))]))
    datapath.set_path(peer, Path(AddrPort.parse(f"{OUTER[1 - side]}:{PORT}"), relay=False))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    port = TunPort(tun.detach(), tun.mtu, vnet_hdr=tun.vnet_hdr, uso=tun.uso)
    datapath.start(port, [open_udp()])
    send, receive = KEYS[side], KEYS[1 - side]
    datapath.set_session(
        peer, Session(1 + side, 2 - side, send, receive, clock.now(), initiator=True)
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stop.wait()
    sys.stderr.write(f"{side} {datapath.activity(peer)}\n")
    dropped = {name: n for name, n in datapath.drops().items() if n}
    sys.stderr.write(f"{side} drops {dropped}\n")
    datapath.stop()


def serve_profiled(side: int, options: argparse.Namespace) -> None:
    """Like :func:`serve`, with cProfile around it when asked."""
    offload, profile = not options.no_offload, options.profile
    if not profile:
        asyncio.run(serve(side, options.datapath[0], offload=offload))
        return
    with cProfile.Profile() as p:
        asyncio.run(serve(side, options.datapath[0], offload=offload))
    p.dump_stats(f"{profile}.{side}")


# --- the course ---------------------------------------------------------------


def run(*args: str) -> str:
    """Run a command; its output."""
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def course() -> Iterator[None]:
    """Two namespaces and a veth pair; removed on the way out, whatever happens."""
    try:
        for name in NETNS:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        a, b = NETNS
        run("ip", "-n", a, "link", "add", "e0", "type", "veth", "peer", "name", "e0", "netns", b)
        for name, address in zip(NETNS, OUTER, strict=True):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "e0")
            run("ip", "-n", name, "link", "set", "e0", "up")
        yield
    finally:
        for name in NETNS:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def bring_up(side: int) -> None:
    """Address and route of a TUN device."""
    name = NETNS[side]
    run("ip", "-n", name, "link", "set", TUN, "mtu", str(MTU), "up")
    run("ip", "-n", name, "addr", "add", f"{INNER[side]}/32", "dev", TUN)
    run("ip", "-n", name, "route", "add", f"{INNER[1 - side]}/32", "dev", TUN)


@contextlib.contextmanager
def ours(name: str, options: argparse.Namespace) -> Iterator[list[int]]:
    """One of our datapaths on both sides; yields the process ids."""
    processes: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        for side, netns in enumerate(NETNS):
            command = [
                "ip",
                "netns",
                "exec",
                netns,
                sys.executable,
                "-m",
                "integration.bench.datapath",
            ]
            command += ["--serve", str(side), "--datapath", name]
            command += ["--profile", options.profile] if options.profile else []
            command += ["--no-offload"] if options.no_offload else []
            err = None if options.verbose else subprocess.DEVNULL
            env = os.environ | HOLDING
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, env=env))
            stack.enter_context(ended(processes[-1]))
        for side, process in enumerate(processes):
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                msg = "the datapath did not start"
                raise RuntimeError(msg)
            bring_up(side)
        yield [process.pid for process in processes]


@contextlib.contextmanager
def wireguard_go() -> Iterator[list[int]]:
    """wireguard-go on both sides; yields the process ids."""
    processes: list[subprocess.Popen[bytes]] = []
    privates = [run("wg", "genkey").strip() for _ in NETNS]
    publics = [
        subprocess.run(
            ["wg", "pubkey"], input=key, check=True, capture_output=True, text=True
        ).stdout.strip()
        for key in privates
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for side, name in enumerate(NETNS):
            # wireguard-go names its socket after the device, so each needs a folder of its own.
            own = FilePath(folder) / str(side)
            own.mkdir()
            key = own / "key"
            key.write_text(privates[side])
            inside = f"mount --bind {own} /var/run/wireguard && exec wireguard-go -f {TUN}"
            FilePath("/var/run/wireguard").mkdir(exist_ok=True)
            command = ["ip", "netns", "exec", name, "unshare", "-m", "sh", "-c", inside]
            processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            stack.enter_context(ended(processes[-1]))
            deadline = time.monotonic() + 10
            while not (own / f"{TUN}.sock").exists():
                if time.monotonic() > deadline:
                    msg = "wireguard-go did not start"
                    raise RuntimeError(msg)
                time.sleep(0.02)
            pid = str(processes[-1].pid)
            wg = ["nsenter", "-t", pid, "-m", "-n", "wg", "set", TUN]
            run(*wg, "listen-port", str(PORT), "private-key", str(key))
            other = 1 - side
            endpoint = f"{OUTER[other]}:{PORT}"
            run(
                *wg, "peer", publics[other], "endpoint", endpoint,
                "allowed-ips", f"{INNER[other]}/32",
            )  # fmt: skip
            run("ip", "-n", name, "link", "set", TUN, "mtu", str(MTU), "up")
        for side in range(2):
            bring_up(side)
        yield [process.pid for process in processes]


def ends_of(pids: list[int]) -> Ends:
    """The tunnel that these processes make."""
    one, two = NETNS
    return Ends(one, two, INNER[1], (OUTER[1], PORT), (pids[0], pids[1]), one)


MEASURES: dict[str, Callable[[Ends, float], Sample]] = {
    "tcp": bulk,
    "udp": lambda ends, seconds: bulk(ends, seconds, "-u", "-b", "0", "-l", "1200"),
    "stall": stall,
}


def available() -> list[str]:
    """Implementations that are here; ours first."""
    names = ["reference"] if why_not() else ["native", "reference"]
    return [*names, "wireguard-go"] if shutil.which("wireguard-go") else names


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--what", choices=[*MEASURES], default="tcp")
    parser.add_argument(
        "--datapath", action="append", choices=["native", "reference", "wireguard-go"],
        help="may be repeated; all that are here if not given",
    )  # fmt: skip
    parser.add_argument("--no-offload", action="store_true", help="ours on a plain TUN device")
    parser.add_argument("--verbose", action="store_true", help="counters of both ends")
    parser.add_argument("--profile", default="", help="write cProfile statistics to this name")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve_profiled(options.serve, options)
        return
    names: list[str] = options.datapath or available()
    if options.what == "stall":
        names = [name for name in names if name != "wireguard-go"]  # it has no such lock
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    measure = MEASURES[options.what]
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    with course():
        for number in range(1, options.rounds + 1):
            for name in names:
                tunnel = wireguard_go() if name == "wireguard-go" else ours(name, options)
                with tunnel as pids:
                    sample = measure(ends_of(pids), options.seconds)
                samples[name].append(sample)
                say(f"round {number}  {name:14}{brief(sample)}")
    report(samples)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
