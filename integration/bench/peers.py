"""Random traffic to two peers and to a thousand, the datapaths alone.

    python -m integration.bench.peers [--rounds 3] [--seconds 3] [--datapath native]

Two namespaces joined by a veth pair; in each a TUN device served by one process.  The sender has
a session with each of so many peers, and so has the receiver; all of them are that one other
process, at as many addresses.  :mod:`integration.bench.crossfire` makes the traffic, 1,000 flows in
random order, each to a peer of its own or half of them to each of two: the flows are as many, only
the peers differ.  The loads are UDP datagrams of 64 and of 1,200 bytes (the best of several offered
rates), and messages of 64 bytes to 64 KiB over TCP.  The third case is two peers to whom every
datagram goes alone, without segmentation offload: of two peers, several datagrams in a row are one
message to the kernel, of a thousand hardly ever.  The fourth is a thousand peers with two threads
that encrypt.

Prints what the receiver's device took, and the CPU of both tunnel processes, in turn.  Needs root.
"""

import argparse
import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network

from integration.bench.crossfire import FIRST, SOURCE
from integration.bench.datapath import (
    INNER,
    KEYS,
    MTU,
    NETNS,
    OUTER,
    PORT,
    TUN,
    course,
    make_datapath,
    open_udp,
    run,
)
from integration.bench.measures import Sample, cpu_seconds, ended
from integration.bench.table import brief, report, say
from integration.lab.process import in_namespace

from tailnet.agent import clock
from tailnet.agent.addr import AddrPort
from tailnet.agent.datapath.interface import Path, PeerEntry, Session, TunPort
from tailnet.agent.filter.rules import compile_filter
from tailnet.agent.keys import PeerId
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange
from tailnet.platform.linux.tun import open_tun

CASES = {
    "1000 peers": (1000, 1, True),
    "2 peers": (2, 1, True),
    "2 peers, alone": (2, 1, False),
    "1000 peers, 2 threads": (1000, 2, True),
}  # peers, threads, segmentation offload
OUTSIDE = IPv4Address("10.98.0.0")  # the first of the addresses where they are reached
RATES = (60_000, 80_000, 100_000, 120_000, 150_000, 180_000)  # datagrams offered a second
LOADS = {"64": 64, "1200": 1200, "messages": 0}  # bytes of UDP payload; TCP


async def serve(side: int, name: str, peers: int, threads: int, *, gso: bool) -> None:
    """Carry packets until SIGTERM."""
    tun = open_tun(TUN, mtu=MTU, queues=threads)
    datapath = make_datapath(name)
    everything = NetPortRange(ip="*", ports=PortRange(0, 65535))
    sources = {
        PeerId(n): PeerEntry(
            (ip_network(FIRST + n),)
            if side == 0
            else (ip_network(SOURCE + n), ip_network(INNER[0]))
        )
        for n in range(peers)
    }
    datapath.set_peers(sources)
    ours = [ip_network(INNER[0]), ip_network((SOURCE, 16))]
    datapath.set_local(ours if side == 0 else [ip_network((FIRST, 16))])
    datapath.set_filter(compile_filter([FilterRule(src_ips=("*",), dst_ports=(everything,))]))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    more = tun.detach_more()
    port = TunPort(tun.detach(), tun.mtu, vnet_hdr=tun.vnet_hdr, uso=tun.uso, more=more)
    datapath.start(port, [open_udp()._replace(gso=gso)])
    send, receive = KEYS[side], KEYS[1 - side]
    for peer in sources:
        far = OUTSIDE + peer if side == 0 else OUTER[0]
        datapath.set_path(peer, Path(AddrPort.parse(f"{far}:{PORT}"), relay=False))
        datapath.set_session(
            peer, Session(peer + 1, peer + 1, send, receive, clock.now(), initiator=True)
        )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stop.wait()
    dropped = {reason: n for reason, n in datapath.drops().items() if n}
    sys.stderr.write(f"{side} drops {dropped}\n")
    datapath.stop()


@contextlib.contextmanager
def tunnel(
    name: str, peers: int, threads: int, *, gso: bool = True, verbose: bool
) -> Iterator[list[int]]:
    """Both ends; yields their process ids."""
    with contextlib.ExitStack() as stack:
        processes = []
        for side, netns in enumerate(NETNS):
            words = [sys.executable, "-m", "integration.bench.peers", "--serve", str(side)]
            words += ["--datapath", name, "--peers", str(peers), "--threads", str(threads)]
            words += [] if gso else ["--alone"]
            err = None if verbose else subprocess.DEVNULL
            process = subprocess.Popen(
                in_namespace(netns, words), stdout=subprocess.PIPE, stderr=err
            )
            stack.enter_context(ended(process))
            processes.append(process)
        for side, process in enumerate(processes):
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                msg = "the datapath did not start"
                raise RuntimeError(msg)
            run("ip", "-n", NETNS[side], "link", "set", TUN, "mtu", str(MTU), "up")
        run("ip", "-n", NETNS[0], "addr", "add", f"{INNER[0]}/32", "dev", TUN)
        run("ip", "-n", NETNS[1], "route", "add", f"{SOURCE}/16", "dev", TUN)
        run("ip", "-n", NETNS[0], "route", "add", f"{FIRST}/16", "dev", TUN)
        yield [process.pid for process in processes]


def taken() -> tuple[int, int]:
    """Packets and bytes that the receiver's device took."""
    folder = f"/sys/class/net/{TUN}/statistics"
    words = ["cat", f"{folder}/rx_packets", f"{folder}/rx_bytes"]
    packets, size = run("ip", "netns", "exec", NETNS[1], *words).split()
    return int(packets), int(size)


def measure(pids: list[int], load: str, peers: int, seconds: float) -> Sample:
    """One run; of datagrams the best of several offered rates."""
    with contextlib.ExitStack() as stack:
        sink = crossfire(1, "sink")
        stack.enter_context(ended(sink))
        assert sink.stdout is not None
        sink.stdout.readline()  # it listens
        if not (size := LOADS[load]):
            return observe(pids, crossfire(0, "messages", peers), 1.5, seconds)
        rates = [
            observe(pids, crossfire(0, "datagrams", peers, size, rate), 0.5, seconds / len(RATES))
            for rate in RATES
        ]
        return max(rates, key=lambda sample: sample["kpkt/s"])


def crossfire(side: int, *words: str | int) -> subprocess.Popen[bytes]:
    """One of its programs."""
    program = [sys.executable, "-m", "integration.bench.crossfire", *map(str, words)]
    return subprocess.Popen(in_namespace(NETNS[side], program), stdout=subprocess.PIPE)


def observe(
    pids: list[int], load: subprocess.Popen[bytes], warm_up: float, seconds: float
) -> Sample:
    """What goes through, after it is under way."""
    with ended(load):
        time.sleep(warm_up)
        before, spent, began = taken(), sum(map(cpu_seconds, pids)), time.monotonic()
        time.sleep(seconds)
        after, spent = taken(), sum(map(cpu_seconds, pids)) - spent
        passed = time.monotonic() - began
    packets, size = (b - a for a, b in zip(before, after, strict=True))
    return {
        "kpkt/s": packets / passed / 1e3,
        "CPU us/pkt": spent / max(packets, 1) * 1e6,
        "Gbit/s": size * 8 / passed / 1e9,
        "CPU s/GB": spent / max(size, 1) * 1e9,
    }


@contextlib.contextmanager
def many() -> Iterator[None]:
    """The receiver has all the addresses that peers have, and that they are reached at."""
    with course():
        run("ip", "-n", NETNS[0], "route", "add", f"{OUTSIDE}/16", "via", OUTER[1])
        for network in (OUTSIDE, FIRST):
            words = ["route", "add", "local", f"{network}/16", "dev", "lo"]
            run("ip", "-n", NETNS[1], *words)
        run("ip", "-n", NETNS[0], "route", "add", "local", f"{SOURCE}/16", "dev", "lo")
        yield


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--datapath", choices=["native", "reference"], default="native")
    parser.add_argument("--load", choices=[*LOADS], action="append", help="all if not given")
    parser.add_argument("--case", choices=[*CASES], action="append", help="all if not given")
    parser.add_argument("--verbose", action="store_true", help="counters of both ends")
    parser.add_argument("--peers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        end = serve(
            options.serve, options.datapath, options.peers, options.threads, gso=not options.alone
        )
        asyncio.run(end)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with many():
        for load in options.load or LOADS:
            cases = options.case or CASES
            samples: dict[str, list[Sample]] = {case: [] for case in cases}
            for number in range(1, options.rounds + 1):
                for case in cases:
                    peers, threads, gso = CASES[case]
                    ends = tunnel(
                        options.datapath, peers, threads, gso=gso, verbose=options.verbose
                    )
                    with ends as pids:
                        sample = measure(pids, load, peers, options.seconds)
                    samples[case].append(sample)
                    say(f"{load}, round {number}  {case:22}{brief(sample)}")
            report(samples)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
