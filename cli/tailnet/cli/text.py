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
GAP = 2  # blanks between columns
LEAST, LAST = 12, 24  # columns that a cell keeps, and the last one of a row
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
    if seconds < 0.000995:
        return f"{round(seconds * 1e5) * 10}µs"
    millis = round(seconds * 1000)
    return f"{millis}ms" if millis < 1000 else f"{f'{millis / 1000:.3f}'.rstrip('0').rstrip('.')}s"


def format_fine(seconds: float) -> str:
    """As Go prints a duration rounded to tenths of a millisecond."""
    if seconds < 0.00095:
        tenths = round(seconds * 1e4)
        return f"{tenths * 100}µs" if tenths else "0s"
    if seconds < 0.99995:
        return f"{round(seconds * 1000, 1):g}ms"
    return f"{round(seconds, 4):g}s"


def clean(text: str) -> str:
    """Text that came from the network, without what a terminal would act on."""
    return "".join(c for c in text if c.isprintable())


def clean_lines(text: str) -> str:
    """The same, but with its lines and tabs."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def width(text: str) -> int:
    """Columns of a terminal that a clean text takes (Unicode Annex 11; marks take none)."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # noqa: PLC0415 - most names are ASCII

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, room: int) -> str:
    """The text, or as much of it as fits into ``room`` columns, with an ellipsis."""
    if width(text) <= room:
        return text
    while text and width(text) > room - 1:
        text = text[:-1]
    return f"{text}…"


def table(rows: Iterable[Sequence[str]], room: int | None = None) -> list[str]:
    """Columns two spaces apart, left-aligned; no blanks at the ends.

    With ``room`` columns in a terminal, the last column is broken into lines below each other;
    where that does not do, the others lose what is beyond :data:`LEAST`, the widest ones first.
    """
    rows = [tuple(row) for row in rows]
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    if room is not None and widths:
        _narrow(widths, room)
    return [line for row in rows for line in _lines(row, widths)]


def _narrow(widths: list[int], room: int) -> None:
    last = min(widths[-1], LAST)
    while sum(widths[:-1]) + GAP * (len(widths) - 1) + last > room:
        widest = max(range(len(widths) - 1), key=lambda i: widths[i], default=0)
        if len(widths) == 1 or widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    widths[-1] = max(last, min(widths[-1], room - sum(widths[:-1]) - GAP * (len(widths) - 1)))


def _lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    *cells, last = [*row[:-1], row[-1]]
    begun = "".join(
        (shown := cut(cell, room)) + " " * (room - width(shown) + GAP)
        for cell, room in zip(cells, widths, strict=False)
    )
    first, *more = broken(last, widths[-1])
    return [(begun + first).rstrip(), *((" " * len(begun) + text).rstrip() for text in more)]


def broken(text: str, room: int) -> list[str]:
    """Lines of at most ``room`` columns, broken at blanks; a longer word has a line of its own."""
    if width(text) <= room:
        return [text]
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and width(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
