"""Every pair of translators on a real kernel: who meets whom, and how fast.

``make nat-matrix`` prints the table and writes it into docs/nat-traversal.md.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from integration.lab import caddy, miniupnpd
from integration.lab.config import AUTH_KEY
from integration.lab.kinds import KINDS, can_meet, translated
from integration.lab.lab import Lab
from integration.lab.process import LabError
from integration.lab.topology import Translation
from integration.lab.translator import LAN, UPLINK
from integration.lab.waiting import until
from integration.lab.watch import Arrivals, Beginnings, places

PATIENCE = 12.0  # seconds for a direct path
CERTAINTY = 4.0  # seconds without one where there can be none
BETWEEN = 0.002  # seconds from an answer to the next ping
TOGETHER = 8  # daemons that start at once
PAGE = Path(__file__).resolve().parents[2] / "docs" / "nat-traversal.md"
OURS = "tailnetd"
TITLES = {
    "tailnetd-tailnetd": "Two of ours:",
    "tailnetd-go": "Ours (begins) and a Go node:",
    "go-go": "Two Go nodes:",
}
ALL = tuple(TITLES)
BEGIN, END = "<!-- matrix: made by make nat-matrix -->", "<!-- end of matrix -->"


class Result(NamedTuple):
    """Of one pair.

    Attributes:
        one: kind of the one that begins.
        two: of the other.
        took: seconds from the first datagram until data came directly; ``None`` if none did.
        answered: a ping through the tunnel passed.
    """

    one: str
    two: str
    took: float | None
    answered: bool

    @property
    def right(self) -> bool:
        """As theory says."""
        return self.answered and (self.took is not None) == can_meet(self.one, self.two)


def measure(lab: Lab, kinds: tuple[str, str], begins: Beginnings, arrives: Arrivals) -> Result:
    """One pair of the matrix."""
    meet = can_meet(*kinds)
    names = (f"{kinds[0]}a", f"{kinds[1]}b")
    return Result(*kinds, *reach(lab, names, begins, arrives, PATIENCE if meet else CERTAINTY))


def reach(
    lab: Lab, names: tuple[str, str], begins: Beginnings, arrives: Arrivals, patience: float
) -> tuple[float | None, bool]:
    """From the first packet for the other on, which the control server asks for, and many more.

    The same for every program: TSMP pings are data to WireGuard.  The first makes the node ask all
    addresses of the other by disco, which is when time begins; it ends when data arrives directly.
    Both are seen on the machines' links.  What control and node do before is no part of it.

    Returns:
        Seconds to a direct path, ``None`` without one; and whether a ping was answered.
    """
    one, two = names
    ip = next(str(n["addresses"][0]).partition("/")[0] for n in nodes(lab) if n["name"] == two)
    asked = time.time()
    answered = False

    def direct() -> bool:
        nonlocal answered
        with contextlib.suppress(LabError):  # no answer at all
            answered = not lab.admin("ping", name=one, types="TSMP", ip=ip).get("Err") or answered
        return arrives.first_since(asked) is not None

    with contextlib.suppress(LabError):  # no direct path
        until("data by a direct path", direct, patience, every=BETWEEN)
    if (arrived := arrives.first_since(asked)) is None:
        return None, answered
    began = begins.first_since(asked, places(lab.topology, two))
    return arrived - (asked if began is None else began), answered


def nodes(lab: Lab) -> list[dict[str, Any]]:
    """What the control server knows."""
    found: list[dict[str, Any]] = lab.admin("nodes")
    return found


def run_matrix(lab: Lab, pairs: Iterable[tuple[str, str]]) -> list[Result]:
    """Hosts are named by their kind and a letter: ``a`` begins, ``b`` answers."""
    chosen = list(pairs)
    begins = {kind: Beginnings(lab.hosts[f"{kind}a"]) for kind in {one for one, _ in chosen}}
    arrives = {kind: Arrivals(lab.hosts[f"{kind}b"]) for kind in {two for _, two in chosen}}
    for watch in (*begins.values(), *arrives.values()):
        watch.wait()
    return [measure(lab, (one, two), begins[one], arrives[two]) for one, two in chosen]


def open_ports(lab: Lab) -> None:
    """Let the routers that can open ports do so, each by the one protocol of its kind."""
    for router in lab.topology.routers:
        if router.outside is None:
            continue
        namespace = lab.network.namespace(router.name)
        directory = lab.directory / router.name
        directory.mkdir()
        upnp = router.translation is Translation.MAPPED_UPNP
        miniupnpd.speak(namespace, LAN, ("upnp" if upnp else "pcp",))
        lab.adopt(
            miniupnpd.start(
                namespace,
                directory,
                lan=LAN,
                uplink=UPLINK,
                outside=router.outside,
                inside=router.lan.network,
            )
        )


def join(lab: Lab, programs: str) -> None:
    """Start a node on every host; ``programs`` are those of the hosts ``a`` and ``b``."""
    sides = dict(zip("ab", programs.split("-"), strict=True))
    ours = [name for name in lab.hosts if sides[name[-1]] == OURS]
    for at in range(0, len(ours), TOGETHER):
        lab.join(*ours[at : at + TOGETHER])
    if len(ours) == len(lab.hosts):
        lab.wait_complete(60)
        return
    if (program := caddy.binary()) is None:
        msg = "the Go node is not installed: pip install '.[lab]'"
        raise LabError(msg)
    for name, host in lab.hosts.items():
        if name not in ours:
            caddy.CaddyNode(host, program, AUTH_KEY).wait_running(30)
    everybody = set(lab.hosts)
    until("everybody to be online", lambda: lab.online() >= everybody, 30)


def whole(programs: str) -> list[Result]:
    """Every unordered pair, in a lab of its own."""
    lab = Lab(translated(**{f"{kind}{side}": kind for kind in KINDS for side in "ab"}))
    try:
        lab.start()
        open_ports(lab)
        join(lab, programs)
        return run_matrix(lab, combinations_with_replacement(KINDS, 2))
    finally:
        lab.close()


def table(results: list[Result]) -> str:
    """In Markdown; a cell is the time to a direct path, or "relay"."""
    kinds = list(KINDS)
    cells = {(r.one, r.two): r for r in results}
    lines = ["| |" + "|".join(f" {kind} " for kind in kinds) + "|", "|---" * (len(kinds) + 1) + "|"]
    for at, one in enumerate(kinds):
        row = []
        for other, two in enumerate(kinds):
            result = cells.get((one, two))
            said = "" if other < at or result is None else _cell(result)
            row.append(f" {said} ")
        lines.append(f"| {one} |" + "|".join(row) + "|")
    times = [r.took for r in results if r.took is not None]
    if times:
        lines += ["", f"Median {median(times) * 1000:.1f} ms, slowest {max(times):.2f} s."]
    return "\n".join(lines)


def comparison(taken: Mapping[str, Sequence[float]]) -> str:
    """Seconds to a direct path of each pair of programs, in Markdown."""
    lines = ["| | direct | median | mean | slowest |", "|---|---|---|---|---|"]
    for programs, times in taken.items():
        if times:
            cells = (f"{f(times) * 1000:.1f} ms" for f in (median, fmean, max))
            title = TITLES[programs].rstrip(":")
            lines.append(f"| {title} | {len(times)} pairs | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(result: Result) -> str:
    said = "relay" if result.took is None else f"{result.took * 1000:.0f} ms"
    return said if result.right else f"**{said}: wrong**"


def main() -> int:
    """Run it; exit code 1 if something is not as theory says."""
    parser = argparse.ArgumentParser(prog="make nat-matrix", description=__doc__)
    parser.add_argument("--no-docs", action="store_true", help="leave the page as it is")
    parser.add_argument("programs", nargs="*", default=ALL, metavar="ONE-TWO", help=", ".join(ALL))
    arguments = parser.parse_args()
    parts, good, taken = [], True, {}
    for programs in arguments.programs:
        results = whole(programs)
        parts.append(f"{TITLES[programs]}\n\n{table(results)}")
        sys.stdout.write(parts[-1] + "\n\n")
        sys.stdout.flush()
        taken[programs] = [r.took for r in results if r.took is not None]
        good = good and (programs == "go-go" or all(r.right for r in results))
    parts.append(f"In short:\n\n{comparison(taken)}")
    sys.stdout.write(parts[-1] + "\n")
    if not arguments.no_docs:
        page = PAGE.read_text()
        head, _, rest = page.partition(BEGIN)
        text = "\n\n".join(parts)
        PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
