"""Random traffic to two peers and to a thousand, the datapaths alone.

    python -m integration.bench.peers [--rounds 3] [--seconds 3] [--datapath native]

Two namespaces joined by a veth pair; in each a TUN device served by one process.  The sender has a
session with each of so many peers, and so has the receiver; all of them are that one other process.
A program sends datagrams as fast as it can through 1,000 sockets in random order, each socket to
a peer of its own, or half of them to each of two: the flows are as many, only the peers differ.
The third case is two peers to whom every datagram goes alone, without segmentation offload: of two
peers, several datagrams in a row are one message to the kernel, of a thousand hardly ever.  The
fourth is a thousand peers with two threads that encrypt.

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
FIRST = IPv4Address("100.65.0.0")
SIZES = (64, 1200)  # bytes of UDP payload

LOAD = """
import random, signal, socket, sys
first, peers, size = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
socks = []
for n in range(1000):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((socket.inet_ntoa((first + n % peers).to_bytes(4)), 9999))
    socks.append(sock)
data = bytes(size)
order = [random.choice(socks).send for _ in range(100_000)]
while True:
    for send in order:
        try:
            send(data)
        except OSError:
            pass
"""


async def serve(side: int, name: str, peers: int, threads: int, *, gso: bool) -> None:
    """Carry packets until SIGTERM."""
    tun = open_tun(TUN, mtu=MTU, queues=threads)
    datapath = make_datapath(name)
    everything = NetPortRange(ip="*", ports=PortRange(0, 65535))
    far = AddrPort.parse(f"{OUTER[1 - side]}:{PORT}")
    sources = {
        PeerId(n): PeerEntry((ip_network(FIRST + n if side == 0 else INNER[0]),))
        for n in range(peers)
    }
    datapath.set_peers(sources)
    datapath.set_local([ip_network(INNER[0]) if side == 0 else ip_network((FIRST, 16))])
    datapath.set_filter(compile_filter([FilterRule(src_ips=("*",), dst_ports=(everything,))]))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    more = tun.detach_more()
    port = TunPort(tun.detach(), tun.mtu, vnet_hdr=tun.vnet_hdr, uso=tun.uso, more=more)
    datapath.start(port, [open_udp()._replace(gso=gso)])
    send, receive = KEYS[side], KEYS[1 - side]
    for peer in sources:
        datapath.set_path(peer, Path(far, relay=False))
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
        run("ip", "-n", NETNS[0], "route", "add", f"{FIRST}/16", "dev", TUN)
        yield [process.pid for process in processes]


def taken() -> int:
    """Packets that the receiver's device took."""
    file = f"/sys/class/net/{TUN}/statistics/rx_packets"
    return int(run("ip", "netns", "exec", NETNS[1], "cat", file))


def measure(pids: list[int], peers: int, size: int, seconds: float) -> Sample:
    """One run at full speed."""
    words = [sys.executable, "-c", LOAD, str(int(FIRST)), str(peers), str(size)]
    with ended(subprocess.Popen(in_namespace(NETNS[0], words))):
        time.sleep(1)  # until it is under way
        packets, spent, began = taken(), sum(map(cpu_seconds, pids)), time.monotonic()
        time.sleep(seconds)
        packets, spent = taken() - packets, sum(map(cpu_seconds, pids)) - spent
        passed = time.monotonic() - began
    return {"kpkt/s": packets / passed / 1e3, "CPU us/pkt": spent / max(packets, 1) * 1e6}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--datapath", choices=["native", "reference"], default="native")
    parser.add_argument("--size", type=int, action="append", help="bytes; 64 and 1200 if not given")
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
    with course():
        for size in options.size or SIZES:
            samples: dict[str, list[Sample]] = {case: [] for case in CASES}
            for number in range(1, options.rounds + 1):
                for case, (peers, threads, gso) in CASES.items():
                    ends = tunnel(
                        options.datapath, peers, threads, gso=gso, verbose=options.verbose
                    )
                    with ends as pids:
                        sample = measure(pids, peers, size, options.seconds)
                    samples[case].append(sample)
                    say(f"{size} bytes, round {number}  {case:22}{brief(sample)}")
            report(samples)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
