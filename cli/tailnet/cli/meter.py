"""From counters that grow to rates: what each peer sends and receives, over the last looks."""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

MEMORY = 24  # looks
BARS = "▁▂▃▄▅▆▇█"


class Counters(NamedTuple):
    """Bytes since the daemon's start."""

    received: int
    sent: int


class Rate(NamedTuple):
    """Bytes a second since the look before; ``recent``: both together, oldest first."""

    received: float
    sent: float
    recent: tuple[float, ...]

    @property
    def both(self) -> float:
        """The sum."""
        return self.received + self.sent


NO_RATE = Rate(0.0, 0.0, ())


class Meter:
    """Remembers the last looks at every peer."""

    def __init__(self) -> None:
        self._last: dict[str, Counters] = {}
        self._recent: dict[str, deque[float]] = {}
        self._at = 0.0

    def look(self, counters: Mapping[str, Counters], now: float) -> dict[str, Rate]:
        """Rates since the look before; of peers that are new, and after a restart, none.

        ``now`` [s] is later than at the look before.
        """
        elapsed, self._at = now - self._at, now
        rates: dict[str, Rate] = {}
        for key, now_at in counters.items():
            last = self._last.get(key)
            if last is None or elapsed <= 0 or now_at < last:
                received = sent = 0.0
            else:
                received = max(0.0, (now_at.received - last.received) / elapsed)
                sent = max(0.0, (now_at.sent - last.sent) / elapsed)
            recent = self._recent.setdefault(key, deque(maxlen=MEMORY))
            recent.append(received + sent)
            rates[key] = Rate(received, sent, tuple(recent))
        self._recent = {key: self._recent[key] for key in counters}
        self._last = dict(counters)
        return rates


def sparkline(values: tuple[float, ...]) -> str:
    """A bar a value, the highest one full; nothing moved is a flat line."""
    most = max(values, default=0.0)
    if not most:
        return BARS[0] * len(values)
    return "".join(BARS[min(len(BARS) - 1, int(v / most * (len(BARS) - 1) + 0.5))] for v in values)


def format_rate(rate: float) -> str:
    """``1.2 MB/s``; empty for none."""
    if rate < 1:
        return ""
    for unit in ("B", "KB", "MB"):
        if rate < 1000:
            return f"{rate:.0f} {unit}/s" if unit == "B" or rate >= 100 else f"{rate:.1f} {unit}/s"
        rate /= 1000
    return f"{rate:.2f} GB/s"


def format_size(size: float) -> str:
    """``1.2 GB``."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
