"""One TCP stream between two TUN hosts: our daemon and Debian's wireguard-go, alternately.

``make bench`` or ``python -m integration.bench.throughput [--rounds N] [--seconds S] [--startup]``.
Ours runs with each datapath that is built here.  All pairs of hosts stand in one lab on one
machine; those that are not measured are idle.  Other load of the machine hurts all alike, so look
at the ratios, not at the figures.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import combinations

from integration.bench.wireguard_go import WireGuardGo, missing
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.measure import tcp_stream
from integration.lab.process import LabError, Process
from integration.lab.topology import flat
from integration.lab.waiting import until

from tailnet.agent.datapath.native import why_not

NATIVE = "native"
REFERENCE = "reference"
THEIRS = "wireguard-go"
DIRECT_TIMEOUT = 20.0  # seconds until ours uses a direct path


@dataclass(frozen=True, slots=True)
class Pair:
    """Two hosts with a tunnel between them.

    Attributes:
        name: of the implementation.
        sender: where the stream comes from.
        receiver: where it goes.
        address: of the receiver inside the tunnel.
        daemons: whose CPU time counts.
    """

    name: str
    sender: Host
    receiver: Host
    address: IPv4Address
    daemons: tuple[Process, Process]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement.

    Attributes:
        gbit: 10⁹ bits per second, TCP payload.
        cpu: seconds of both daemons per 10⁹ bytes.
    """

    gbit: float
    cpu: float


def measure(pair: Pair, seconds: float) -> Sample:
    """One stream through a pair's tunnel."""
    before = sum(daemon.cpu_seconds() for daemon in pair.daemons)
    stream = tcp_stream(pair.sender, pair.receiver, pair.address, seconds=seconds)
    used = sum(daemon.cpu_seconds() for daemon in pair.daemons) - before
    return Sample(stream.gbit, used / (stream.received / 1e9))


def our_pair(lab: Lab, datapath: str) -> Pair:
    """Two hosts with one of our datapaths and a direct path."""
    one, two = lab.hosts[f"{datapath[0]}1"], lab.hosts[f"{datapath[0]}2"]
    lab.join(one.name, two.name, flags=[f"--datapath={datapath}"])
    lab.wait_complete()
    for here, there in ((one, two), (two, one)):
        wait_direct(here, there)
    return Pair(datapath, one, two, two.ipv4, (one.running, two.running))


def wait_direct(here: Host, there: Host) -> None:
    """Wait until a host uses a direct path to another."""

    def direct() -> str:
        here.ping_os(there.ipv4, count=1)
        return here.path_to(there.name)

    until(f"a direct path from {here.name}", direct, DIRECT_TIMEOUT)


def their_pair(lab: Lab) -> Pair:
    """w1 and w2."""
    tag = lab.network.tag
    one = WireGuardGo(lab.hosts["w1"], IPv4Address("192.0.2.1"), f"{tag}a")
    two = WireGuardGo(lab.hosts["w2"], IPv4Address("192.0.2.2"), f"{tag}b")
    one.connect(two)
    two.connect(one)
    one.check(two)
    return Pair(THEIRS, one.host, two.host, two.address, (one.process, two.process))


def spread(values: Sequence[float]) -> str:
    """Smallest, middle and largest."""
    return f"{min(values):7.2f} {statistics.median(values):7.2f} {max(values):7.2f}"


def say(text: str) -> None:
    """A line of output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def report(samples: dict[str, list[Sample]]) -> None:
    """A table of all implementations, and the ratio of each pair of them, round by round."""
    say(f"\n{'':34}{'min':>7} {'median':>7} {'max':>7}")
    for name, taken in samples.items():
        say(f"{name:14}{'Gbit/s':20}{spread([sample.gbit for sample in taken])}")
        say(f"{name:14}{'CPU s per GB':20}{spread([sample.cpu for sample in taken])}")
    for first, other in combinations(samples, 2):
        rounds = list(zip(samples[first], samples[other], strict=True))
        title = f"{first} / {other}"
        say(f"{title:26}{'Gbit/s':>8}{spread([a.gbit / b.gbit for a, b in rounds])}")
        say(f"{title:26}{'CPU':>8}{spread([a.cpu / b.cpu for a, b in rounds])}")


def throughput(rounds: int, seconds: float, only: str | None) -> None:
    """Measure all pairs in turn, and report."""
    makers: dict[str, Callable[[Lab], Pair]] = {
        NATIVE: lambda lab: our_pair(lab, NATIVE),
        REFERENCE: lambda lab: our_pair(lab, REFERENCE),
        THEIRS: their_pair,
    }
    if reason := why_not():
        say(f"the native datapath is not measured: {reason}")
        del makers[NATIVE]
    if gone := missing():
        say(f"not compared with wireguard-go: {' and '.join(gone)} not installed")
        del makers[THEIRS]
    if only is not None:
        makers = {only: makers[only]}
    with Lab(flat("n1", "n2", "r1", "r2", "w1", "w2")) as lab:
        pairs = [make(lab) for make in makers.values()]
        samples: dict[str, list[Sample]] = {pair.name: [] for pair in pairs}
        for number in range(1, rounds + 1):
            for pair in pairs:
                sample = measure(pair, seconds)
                samples[pair.name].append(sample)
                figures = f"{sample.gbit:6.2f} Gbit/s {sample.cpu:6.2f} CPU s per GB"
                say(f"round {number}  {pair.name:14}{figures}")
        report(samples)


def startup(rounds: int) -> None:
    """Time from the start of the daemon to Running with keys on disk, and of ``tnet status``."""
    with Lab(flat("h1", "h2")) as lab:
        lab.join()
        lab.wait_complete()
        one, two = lab.hosts["h1"], lab.hosts["h2"]
        running, pinged, status = [], [], []
        target = two.ipv4
        for _ in range(rounds):
            one.stop()
            began = time.monotonic()
            one.start()
            one.wait_running()
            running.append(time.monotonic() - began)
            until(
                "a first ping", lambda: one.ping_os(target, count=1, wait=0.2).received, 20, every=0
            )
            pinged.append(time.monotonic() - began)
            began = time.monotonic()
            one.tnet("status")
            status.append(time.monotonic() - began)
    say(f"{'seconds':34}{'min':>7} {'median':>7} {'max':>7}")
    say(f"{'daemon start to Running':34}{spread(running)}")
    say(f"{'daemon start to first ping':34}{spread(pinged)}")
    say(f"{'tnet status':34}{spread(status)}")


def main() -> int:
    """Parse arguments and measure; exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how many (default 5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="per stream (default 5)")
    parser.add_argument(
        "--only", choices=(NATIVE, REFERENCE, THEIRS), help="measure one of them alone"
    )
    parser.add_argument("--startup", action="store_true", help="measure starting instead")
    arguments = parser.parse_args()
    try:
        if arguments.startup:
            startup(arguments.rounds)
        else:
            throughput(arguments.rounds, arguments.seconds, arguments.only)
    except LabError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
