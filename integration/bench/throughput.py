"""The table of goals for throughput and delay: our daemon and others, alternately.

``make bench``, or ``python -m integration.bench.throughput [--rounds N] [--seconds S] [--what …]``.
Ours runs with each datapath that is built here, beside Debian's wireguard-go if it is installed and
``tailscaled`` if you name one.  All pairs of hosts stand in one lab on one machine; those that are
not measured are idle.  Other load of the machine hurts all alike, so look at the ratios, not at
the figures.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from integration.bench.measures import HOLDING, MEASURES, Ends, Sample, iperf, stall
from integration.bench.table import HEAD, brief, report, say, spread
from integration.bench.wireguard_go import PORT as THEIR_PORT
from integration.bench.wireguard_go import WireGuardGo, missing
from integration.lab.host import PORT, Host
from integration.lab.lab import Lab
from integration.lab.process import LabError, Process
from integration.lab.tailscaled import Tailscaled
from integration.lab.topology import flat
from integration.lab.waiting import until

from tailnet.agent.datapath.native import AeadChoice, why_not

NATIVE = "native"
BUILT_IN = "built-in"  # native, with the cipher that is built in, where another would be taken
REFERENCE = "reference"
WIREGUARD_GO = "wireguard-go"
TAILSCALED = "tailscaled"
STRANGER = "x"  # a host of its own for floods
DIRECT_TIMEOUT = 20.0  # seconds until ours uses a direct path
STREAM = 5.0  # seconds of one stream of those that move so many GB

Maker = Callable[[Lab], Ends]


def ends_of(
    lab: Lab, hosts: tuple[Host, Host], daemons: tuple[Process, Process], to: IPv4Address, port: int
) -> Ends:
    """A tunnel from the first host to the second."""
    one, two = hosts
    return Ends(
        sender=one.namespace,
        receiver=two.namespace,
        address=str(to),
        outer=(str(two.underlay), port),
        pids=(daemons[0].pid, daemons[1].pid),
        stranger=lab.hosts[STRANGER].namespace,
    )


def our_pair(lab: Lab, name: str) -> Ends:
    """Two hosts with one of our datapaths and a direct path."""
    one, two = lab.hosts[f"{name[0]}1"], lab.hosts[f"{name[0]}2"]
    flags = [f"--datapath={NATIVE if name == BUILT_IN else name}"]
    if name == BUILT_IN:
        flags.append(f"--datapath-aead={AeadChoice.RING}")
    for host in (one, two):
        host.variables |= HOLDING
    lab.join(one.name, two.name, flags=flags)
    lab.wait_complete()
    for here, there in ((one, two), (two, one)):
        wait_direct(here, there)
    ends = ends_of(lab, (one, two), (one.running, two.running), two.ipv4, PORT)
    return replace(ends, holds=True)


def wait_direct(here: Host, there: Host) -> None:
    """Wait until a host uses a direct path to another."""

    def direct() -> str:
        here.ping_os(there.ipv4, count=1)
        return here.path_to(there.name)

    until(f"a direct path from {here.name}", direct, DIRECT_TIMEOUT)


def wireguard_pair(lab: Lab) -> Ends:
    """w1 and w2."""
    tag = lab.network.tag
    one = WireGuardGo(lab.hosts["w1"], IPv4Address("192.0.2.1"), f"{tag}a")
    two = WireGuardGo(lab.hosts["w2"], IPv4Address("192.0.2.2"), f"{tag}b")
    one.connect(two)
    two.connect(one)
    one.check(two)
    daemons = (one.process, two.process)
    return ends_of(lab, (one.host, two.host), daemons, two.address, THEIR_PORT)


def tailscaled_pair(lab: Lab, program: Path) -> Ends:
    """t1 and t2."""
    one, two = (Tailscaled(lab.hosts[name], program) for name in ("t1", "t2"))
    one.up()
    two.up()
    one.wait_direct(two)
    two.wait_direct(one)
    daemons = (one.process, two.process)
    return ends_of(lab, (one.host, two.host), daemons, two.address, PORT)


def makers(only: Sequence[str], tailscaled: Path | None) -> dict[str, Maker]:
    """All implementations that are here, or those of them that are asked for."""
    found: dict[str, Maker] = {}
    if reason := why_not():
        say(f"the native datapath is not measured: {reason}")
    else:
        found[NATIVE] = lambda lab: our_pair(lab, NATIVE)
        if not why_not(AeadChoice.IPSEC_MB):
            found[BUILT_IN] = lambda lab: our_pair(lab, BUILT_IN)
    found[REFERENCE] = lambda lab: our_pair(lab, REFERENCE)
    if gone := missing():
        say(f"not compared with wireguard-go: {' and '.join(gone)} not installed")
    else:
        found[WIREGUARD_GO] = wireguard_pair
    if tailscaled is not None:
        found[TAILSCALED] = lambda lab: tailscaled_pair(lab, tailscaled)
    return {name: make for name, make in found.items() if not only or name in only}


def table(what: Sequence[str], rounds: int, seconds: float, pairs: dict[str, Maker]) -> None:
    """Measure all pairs in turn, and report."""
    hosts = [f"{name[0]}{side}" for name in pairs for side in (1, 2)]
    with Lab(flat(*hosts, STRANGER)) as lab:
        tunnels = {name: make(lab) for name, make in pairs.items()}
        for title, measure in (MEASURES[name] for name in what):
            say(f"\n{title}; load average {load()}")
            able = {name: ends for name, ends in tunnels.items() if ends.holds or measure != stall}
            samples: dict[str, list[Sample]] = {name: [] for name in able}
            for number in range(1, rounds + 1):
                for name, ends in able.items():
                    samples[name].append(measure(ends, seconds))
                    say(f"round {number}  {name:14}{brief(samples[name][-1])}")
            report(samples)


def load() -> str:
    """The machine's load average of the last minute, and its processors."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"


def memory(amount: float) -> None:
    """Resident memory of both daemons: fresh, connected, and after ``amount`` GB."""
    with Lab(flat("n1", "n2", STRANGER), pinned=False) as lab:
        for name in ("n1", "n2"):
            lab.hosts[name].start()
        fresh = [resident(lab.hosts[name].running.pid) for name in ("n1", "n2")]
        for name in ("n1", "n2"):
            lab.hosts[name].stop()
        ends = our_pair(lab, REFERENCE if why_not() else NATIVE)
        idle = [resident(pid) for pid in ends.pids]
        moved = 0.0
        while moved < amount:
            received = iperf(ends, STREAM)["sum_received"]
            moved += received["bytes"] / 1e9
            say(f"{moved:.1f} GB moved, the last at {received['bits_per_second'] / 1e9:.2f} Gbit/s")
        after = [resident(pid) for pid in ends.pids]
    say(f"\n{'MiB resident':42}{'sender':>9} {'receiver':>9}")
    for title, figures in (
        ("started, logged out", fresh),
        ("connected, one peer", idle),
        (f"after {moved:.1f} GB", after),
    ):
        say(f"{title:42}" + " ".join(f"{figure:9.1f}" for figure in figures))


def resident(pid: int) -> float:
    """Resident memory of a process [MiB]."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def startup(rounds: int) -> None:
    """Time from the start of the daemon to Running with keys on disk, and of ``tnet status``."""
    with Lab(flat("h1", "h2"), pinned=False) as lab:
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
    say(f"seconds{HEAD[7:]}")
    say(f"{'daemon start to Running':52}{spread(running)}")
    say(f"{'daemon start to first ping':52}{spread(pinged)}")
    say(f"{'tnet status':52}{spread(status)}")


def main() -> int:
    """Parse arguments and measure; exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each (default 3)")
    parser.add_argument(
        "--what", choices=list(MEASURES), action="append", help="may be repeated (default: all)"
    )
    parser.add_argument(
        "--only", choices=(NATIVE, BUILT_IN, REFERENCE, WIREGUARD_GO, TAILSCALED), action="append",
        default=[], help="may be repeated (default: all that are here)",
    )  # fmt: skip
    parser.add_argument(
        "--tailscaled", type=Path, metavar="PATH",
        help="compare with this tailscaled; tailscale must lie beside it",
    )  # fmt: skip
    parser.add_argument("--userspace", action="store_true", help="and userspace networking")
    parser.add_argument("--startup", action="store_true", help="measure starting instead")
    parser.add_argument(
        "--memory", type=float, nargs="?", const=10.0, metavar="GB",
        help="measure resident memory instead, before and after so much traffic (default 10)",
    )  # fmt: skip
    arguments = parser.parse_args()
    for each in (signal.SIGTERM, signal.SIGHUP):  # `timeout` and a closed terminal clean up, too
        signal.signal(each, signal.default_int_handler)
    try:
        if arguments.startup:
            startup(arguments.rounds)
        elif arguments.memory is not None:
            memory(arguments.memory)
        else:
            pairs = makers(arguments.only, arguments.tailscaled)
            table(arguments.what or list(MEASURES), arguments.rounds, arguments.seconds, pairs)
            if arguments.userspace:
                say(f"\nuserspace networking; load average {load()}")
                module = [sys.executable, "-m", "integration.bench.userspace", "--open"]
                subprocess.run([*module, "--seconds", str(arguments.seconds)], check=True)
    except LabError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
