"""How long ``tnet`` takes, from its start to its end.

``make bench-cli``, or ``python -m integration.bench.cli [--tailscale PATH] [--rounds N]``.
A lab of two hosts; commands in turn, each with ``tailscale`` right after it, if you name one: it
asks the same daemon.  An empty Python program shows what the interpreter alone takes.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from integration.bench.table import say, spread
from integration.lab.host import BIN, Host
from integration.lab.lab import Lab
from integration.lab.process import LabError
from integration.lab.topology import flat

EMPTY = "python -c pass"
GOALS = {"--help": 80, "status": 100}  # milliseconds
COMMANDS = (
    "--help", "status", "status --json", "ip", "ip -4 h2", "whois {h2}", "up", "get", "routes",
    "dns status", "switch --list", "version",
)  # fmt: skip
OURS_ALONE = frozenset(("routes", "get"))  # theirs does not have them, or not in every version


@dataclass(frozen=True, slots=True)
class Took:
    """One run [ms]."""

    wall: float
    cpu: float


def run(host: Host, *argv: str) -> Took:
    """Output to nowhere."""
    begun = time.monotonic()
    pid = os.posix_spawn(
        argv[0], argv, host.environment(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)
        ],
    )  # fmt: skip
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - begun
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        msg = f"{' '.join(argv)} ended with {os.waitstatus_to_exitcode(status)}"
        raise LabError(msg)
    return Took(wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000)


def programs(host: Host, theirs: Path | None, command: str) -> dict[str, tuple[str, ...]]:
    """By name, what to run for one command."""
    words = command.split()
    found = {f"tnet {command}": (str(BIN / "tnet"), f"--socket={host.socket}", *words)}
    if theirs is not None and command not in OURS_ALONE:
        found[f"tailscale {command}"] = (str(theirs), f"--socket={host.socket}", *words)
    return found


def measure(host: Host, other: Host, theirs: Path | None, rounds: int) -> None:
    """Run all of them in turn; a line each."""
    wanted: dict[str, tuple[str, ...]] = {EMPTY: (sys.executable, "-c", "pass")}
    for command in COMMANDS:
        wanted |= programs(host, theirs, command.format(h2=other.ipv4))
    took: dict[str, list[Took]] = {name: [] for name in wanted}
    for _ in range(rounds):
        for name, argv in wanted.items():
            took[name].append(run(host, *argv))
    say(f"{'milliseconds':32}{'min':>9} {'median':>9} {'max':>9} {'CPU':>9} {'goal':>9}")
    for name, samples in took.items():
        goal = GOALS.get(name.removeprefix("tnet ").strip(), "")
        cpu = sorted(sample.cpu for sample in samples)[len(samples) // 2]
        say(f"{name:32}{spread([s.wall for s in samples])} {cpu:9.1f} {goal:>9}")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse arguments and measure; exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="how many (default 15)")
    parser.add_argument(
        "--tailscale", type=Path, metavar="PATH", help="compare with this command line"
    )
    arguments = parser.parse_args(argv)
    for each in (signal.SIGTERM, signal.SIGHUP):  # `timeout` and a closed terminal clean up, too
        signal.signal(each, signal.default_int_handler)
    try:
        with Lab(flat("h1", "h2")) as lab:
            lab.join()
            lab.wait_complete()
            measure(lab.hosts["h1"], lab.hosts["h2"], arguments.tailscale, arguments.rounds)
    except LabError as error:
        say(f"cannot measure: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
