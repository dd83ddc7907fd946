"""The datapaths alone, side by side with wireguard-go.

    python integration/bench/datapath.py [--rounds 3] [--seconds 5] [--what tcp|udp|small|…]

Two namespaces joined by a veth pair; in each a TUN device of MTU 1280, served by one process.
Ours runs the datapath alone, with static sessions and no daemon.  Both are measured in turn, in
rounds, so that a busy machine hurts both alike.  Needs root, iperf3, wireguard-go and wg.

Prints Gbit/s, CPU seconds per GB of the two tunnel processes, packets of 64 bytes received per
second (the best of several offered rates) or round-trip times, and the ratios to the last one.
"""

import argparse
import asyncio
import contextlib
import cProfile
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path as FilePath
from typing import Any

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
SMALL_RATES = (150, 300, 450, 700)  # thousands of packets per second
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


Sample = dict[str, float]
"""One measurement: unit → figure."""


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
def ended(processes: list[subprocess.Popen[Any]]) -> Iterator[None]:
    """Terminate these processes afterwards."""
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def ours(name: str, options: argparse.Namespace) -> Iterator[list[int]]:
    """One of our datapaths on both sides; yields the process ids."""
    processes: list[subprocess.Popen[Any]] = []
    with ended(processes):
        for side, netns in enumerate(NETNS):
            command = ["ip", "netns", "exec", netns, sys.executable, __file__]
            command += ["--serve", str(side), "--datapath", name]
            command += ["--profile", options.profile] if options.profile else []
            command += ["--no-offload"] if options.no_offload else []
            err = None if options.verbose else subprocess.DEVNULL
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err))
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
    processes: list[subprocess.Popen[Any]] = []
    privates = [run("wg", "genkey").strip() for _ in NETNS]
    publics = [
        subprocess.run(
            ["wg", "pubkey"], input=key, check=True, capture_output=True, text=True
        ).stdout.strip()
        for key in privates
    ]
    with tempfile.TemporaryDirectory() as folder, ended(processes):
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


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = FilePath(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def iperf(seconds: float, *extra: str) -> dict[str, Any]:
    """One stream from the first namespace to the second; the end of iperf3's report."""
    server = subprocess.Popen(
        ["ip", "netns", "exec", NETNS[1], "iperf3", "-s", "-1", "--forceflush"],
        stdout=subprocess.PIPE,
    )
    with ended([server]):
        assert server.stdout is not None
        for line in server.stdout:
            if b"listening" in line:
                break
        client = ["ip", "netns", "exec", NETNS[0], "iperf3", "-c", INNER[1], "-J"]
        output = run(*client, "-t", str(seconds), *extra)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(5)  # it ends by itself after one client
        end: dict[str, Any] = json.loads(output)["end"]
        return end


def bulk(pids: list[int], seconds: float, *extra: str) -> Sample:
    """As many bytes as possible."""
    before = sum(map(cpu_seconds, pids))
    end = iperf(seconds, *extra)
    spent = sum(map(cpu_seconds, pids)) - before
    received = end["sum_received"] if "sum_received" in end else end["sum"]
    gigabytes = received["bytes"] / 1e9
    return {"Gbit/s": received["bits_per_second"] / 1e9, "CPU s/GB": spent / gigabytes}


def small(pids: list[int], seconds: float) -> Sample:
    """As many packets of 64 bytes as possible."""
    best: Sample = {"kpkt/s": 0.0, "CPU us/pkt": 0.0}
    for rate in SMALL_RATES:
        before = sum(map(cpu_seconds, pids))
        end = iperf(seconds, "-u", "-l", "64", "-b", f"{rate * 512}K")
        spent = sum(map(cpu_seconds, pids)) - before
        total = end["sum"]
        received = total["packets"] - total["lost_packets"]
        if received / total["seconds"] / 1e3 > best["kpkt/s"]:
            per_second = received / total["seconds"] / 1e3
            best = {"kpkt/s": per_second, "CPU us/pkt": spent / received * 1e6}
    return best


def ping(_: list[int], seconds: float) -> Sample:
    """Round trips of an idle tunnel."""
    count = int(seconds * 200)
    command = ["ip", "netns", "exec", NETNS[0], "ping", "-n", "-i", "0.005", "-c", str(count)]
    lines = run(*command, INNER[1]).splitlines()
    times = sorted(float(line.split("time=")[1].split()[0]) for line in lines if "time=" in line)
    middle, late = times[len(times) // 2], times[len(times) * 99 // 100]
    return {"ping p50 us": middle * 1e3, "ping p99 us": late * 1e3}


FLOOD = """
import socket, struct, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
cmsg = [(socket.IPPROTO_UDP, 103, struct.pack("=H", 100))]
data, at = bytes([4, 0, 0, 0] + [9] * 96) * 50, time.monotonic()
while True:
    sock.sendmsg([data], cmsg, 0, (sys.argv[1], int(sys.argv[2])))
    at += 50 / 200_000
    time.sleep(max(0, at - time.monotonic()))
"""


def flood(pids: list[int], seconds: float) -> Sample:
    """Round trips while 200,000 datagrams of nobody come each second; and without, before it."""
    calm = ping(pids, seconds)
    command = ["ip", "netns", "exec", NETNS[0], sys.executable, "-c", FLOOD, OUTER[1], str(PORT)]
    with ended([subprocess.Popen(command)]):
        under = ping(pids, seconds)
    return {**calm, **{f"{unit}, flooded": value for unit, value in under.items()}}


MEASURES: dict[str, Callable[[list[int], float], Sample]] = {
    "tcp": bulk,
    "udp": lambda pids, seconds: bulk(pids, seconds, "-u", "-b", "0", "-l", "1200"),
    "small": small,
    "ping": ping,
    "flood": flood,
}


def spread(name: str, unit: str, values: list[float]) -> str:
    """``min / median / max`` on one line."""
    three = (min(values), statistics.median(values), max(values))
    return f"{name:14}" + " / ".join(f"{v:8.3f}" for v in three) + f"  {unit}"


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def report(samples: dict[str, list[Sample]]) -> None:
    """All figures, and the ratios of the first implementation to the others."""
    first, *others = samples
    for name, measured in samples.items():
        for unit in measured[0]:
            say(spread(name, unit, [sample[unit] for sample in measured]))
    for other in others:
        pairs = list(zip(samples[first], samples[other], strict=True))
        for unit in samples[first][0]:
            ratios = [a[unit] / b[unit] for a, b in pairs]
            say(spread("ratio", f"{unit}, {first} / {other}", ratios))


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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    measure = MEASURES[options.what]
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    with course():
        for number in range(options.rounds):
            for name in names:
                tunnel = wireguard_go() if name == "wireguard-go" else ours(name, options)
                with tunnel as pids:
                    sample = measure(pids, options.seconds)
                samples[name].append(sample)
                figures = "  ".join(f"{value:.3f} {unit}" for unit, value in sample.items())
                say(f"{number + 1} {name:14} {figures}")
    report(samples)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
