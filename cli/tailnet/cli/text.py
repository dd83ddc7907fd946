"""Text from and to people: durations, tables, and nothing that moves the cursor."""

import re
from collections.abc import Iterable, Sequence

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
MAX_DURATION = 2**63 / 1e9  # seconds; Go's time.Duration


def parse_duration(text: str) -> float:
    """Seconds of a duration as Go writes it: ``5s``, ``1m30s``, ``500ms``, ``0``.

    Raises:
        ValueError: anything else, negative ones included.
    """
    if text == "0":
        return 0.0
    total, at = 0.0, 0
    while match := _PART.match(text, at):
        total += float(match[1]) * _UNITS[match[2]]
        at = match.end()
    if not text or at != len(text) or total > MAX_DURATION:
        msg = f"bad duration {text!r}; write it like 5s, 1m30s or 500ms"
        raise ValueError(msg)
    return total


def format_latency(seconds: float) -> str:
    """As Go prints a rounded duration: whole milliseconds, and microseconds below one."""
    if seconds < 0.001:
        return f"{round(seconds * 1e5) * 10}µs"
    millis = round(seconds * 1000)
    return f"{millis}ms" if millis < 1000 else f"{f'{millis / 1000:.3f}'.rstrip('0').rstrip('.')}s"


def format_fine(seconds: float) -> str:
    """As Go prints a duration rounded to tenths of a millisecond."""
    if seconds < 0.001:
        return f"{round(seconds * 1e4) * 100}µs"
    if seconds < 0.99995:
        return f"{round(seconds * 1000, 1):g}ms"
    return f"{round(seconds, 4):g}s"


def clean(text: str) -> str:
    """Text that came from the network, without what a terminal would act on."""
    return "".join(c for c in text if c.isprintable())


def clean_lines(text: str) -> str:
    """The same, but with its lines and tabs."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns two spaces apart, left-aligned; no blanks at the ends."""
    rows = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
