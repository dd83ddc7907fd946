"""How often the daemon answers: a bucket of tokens for each peer, and one for the host."""

from typing import NamedTuple


class Rate(NamedTuple):
    """How fast a bucket fills, and how much it holds."""

    per_second: float
    burst: float


REJECTS = Rate(50.0, 50.0)  # TSMP messages to one peer
UNREACHABLE = Rate(100.0, 100.0)  # ICMP messages to the host, where nobody is there


class Bucket:
    """Tokens."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """True if there was a token."""
        grown = self._tokens + max(0.0, now - self._at) * self._rate.per_second
        self._tokens = min(grown, self._rate.burst)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
