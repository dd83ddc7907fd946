"""What the datapath's tables cost: filling them, changing one peer, memory.

    python -m integration.bench.tables [--peers 10000] [--rounds 5]

Each peer has an IPv4 and an IPv6 address.  CPU is that of the calling thread, the conversion from
Python included; memory is what the process gains.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from tailnet.agent import clock
from tailnet.agent.datapath.interface import Datapath, PeerEntry
from tailnet.agent.datapath.native import NativeDatapath, why_not
from tailnet.agent.datapath.reference.aio import ReferenceDatapath
from tailnet.agent.keys import PeerId

CHANGES = 200
_V4, _V6 = 0x64400000, 0xFD7A_115C_A1E0 << 80


def entry(number: int) -> PeerEntry:
    """Two single addresses."""
    return PeerEntry((IPv4Network(_V4 + number), IPv6Network(_V6 + number)))


def cpu_ms(what: Callable[[], None]) -> float:
    """CPU of this thread."""
    began = time.thread_time()
    what()
    return (time.thread_time() - began) * 1e3


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def measure(datapath: Datapath, peers: dict[PeerId, PeerEntry]) -> dict[str, float]:
    """One round with a new datapath."""
    before = resident()
    fill = cpu_ms(lambda: datapath.set_peers(peers))
    grown = resident() - before
    changes = []
    for number in range(CHANGES):
        peer = PeerId(number * 31 % len(peers) + 1)
        for new in (entry(len(peers) + number), peers[peer]):
            change = {peer: new}
            changes.append(cpu_ms(lambda change=change: datapath.change_peers(change)))  # type: ignore[misc]
    changes.sort()
    return {
        "fill, ms": fill,
        "KB per peer": grown / len(peers) / 1e3,
        "one change, median ms": statistics.median(changes),
        "one change, p99 ms": changes[len(changes) * 99 // 100],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--peers", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    peers = {PeerId(number + 1): entry(number) for number in range(options.peers)}
    makers: dict[str, Callable[[], Datapath]] = {}
    if not why_not():
        makers["native"] = NativeDatapath
    makers["reference"] = lambda: ReferenceDatapath(now=clock.now)
    kept: list[Datapath] = []  # freed memory would serve the next one, uncounted
    rounds: list[dict[str, dict[str, float]]] = []
    for _ in range(options.rounds):
        rounds.append({})
        for name, make in makers.items():
            kept.append(make())
            rounds[-1][name] = measure(kept[-1], peers)
    for name in makers:
        for unit in rounds[0][name]:
            values = [one[name][unit] for one in rounds]
            three = (min(values), statistics.median(values), max(values))
            sys.stdout.write(
                f"{name:10} {unit:22} " + " / ".join(f"{v:8.3f}" for v in three) + "\n"
            )


if __name__ == "__main__":
    main()
