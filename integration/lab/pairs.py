"""Time to a direct path, of many pairs of one kind: ours and Go's by turns, in one run.

``make time-to-direct`` prints it.  Both tailnets are up at the same time, so whatever else the
machine does befalls both; a pair is measured as in the matrix (``integration/lab/matrix.py``).
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from statistics import fmean, median

from integration.lab.kinds import KINDS, translated
from integration.lab.lab import Lab
from integration.lab.matrix import PATIENCE, join, reach
from integration.lab.watch import Arrivals, Beginnings

SIDES = {"ours": "tailnetd-tailnetd", "Go": "go-go"}


def pairs_of(kind: str, count: int) -> list[tuple[str, str]]:
    """Names of hosts that are to meet."""
    return [(f"{kind}{number}a", f"{kind}{number}b") for number in range(count)]


def run(kind: str, count: int) -> dict[str, list[float]]:
    """Seconds to a direct path of each pair, by side."""
    names = pairs_of(kind, count)
    took: dict[str, list[float]] = {side: [] for side in SIDES}
    with contextlib.ExitStack() as stack:
        labs = {}
        for side, programs in SIDES.items():
            topology = translated(**{name: kind for pair in names for name in pair})
            labs[side] = stack.enter_context(Lab(topology))
            join(labs[side], programs)
        for one, two in names:
            for side, lab in labs.items():
                begins, arrives = Beginnings(lab.hosts[one]), Arrivals(lab.hosts[two])
                begins.wait()
                arrives.wait()
                seconds, _ = reach(lab, (one, two), begins, arrives, PATIENCE)
                if seconds is not None:
                    took[side].append(seconds)
    return took


def table(took: dict[str, list[float]]) -> str:
    """In Markdown."""
    lines = ["| | pairs | least | median | mean | most |", "|---|---|---|---|---|---|"]
    for side, times in took.items():
        figures: Sequence[float] = [f(times) * 1000 for f in (min, median, fmean, max)]
        cells = " | ".join(f"{figure:.1f} ms" for figure in figures)
        lines.append(f"| {side} | {len(times)} | {cells} |")
    ours, go = (median(took[side]) for side in SIDES)
    return "\n".join([*lines, "", f"The median of ours is {ours / go:.2f} times Go's."])


def main() -> int:
    """Exit code 1 if a pair did not meet."""
    parser = argparse.ArgumentParser(prog="make time-to-direct", description=__doc__)
    parser.add_argument("--kind", choices=list(KINDS), default="cone", help="default cone")
    parser.add_argument("--pairs", type=int, default=16, help="of each side (default 16)")
    arguments = parser.parse_args()
    took = run(arguments.kind, arguments.pairs)
    sys.stdout.write(table(took) + "\n")
    return 0 if all(len(times) == arguments.pairs for times in took.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
