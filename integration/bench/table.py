"""Figures of several rounds as lines of text."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations

from integration.bench.measures import Sample

HEAD = f"{'':52}{'min':>9} {'median':>9} {'max':>9}"


def say(text: str) -> None:
    """A line of output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def spread(values: Sequence[float]) -> str:
    """Smallest, middle and largest."""
    three = (min(values), statistics.median(values), max(values))
    return " ".join(f"{figure(value):>9}" for value in three)


def figure(value: float) -> str:
    """With three or more digits that count."""
    return f"{value:.{0 if value >= 100 else 2 if value >= 1 else 4}f}"


def brief(sample: Sample) -> str:
    """One sample on one line."""
    return "  ".join(f"{figure(value)} {unit}" for unit, value in sample.items())


def report(samples: Mapping[str, Sequence[Sample]]) -> None:
    """All figures by implementation, and the ratio of each pair of them, round by round."""
    say(HEAD)
    for name, taken in samples.items():
        for unit in taken[0]:
            say(f"{name:26}{unit:26}{spread([sample[unit] for sample in taken])}")
    for first, other in combinations(samples, 2):
        pairs = list(zip(samples[first], samples[other], strict=True))
        for unit in samples[first][0]:
            if all(b[unit] for _, b in pairs):
                ratios = spread([a[unit] / b[unit] for a, b in pairs])
                say(f"{f'{first} / {other}':26}{unit:26}{ratios}")
