"""How long to wait after a failure.

Source: tailscale util/backoff/backoff.go.
"""

from collections.abc import Callable

STEP = 0.010  # seconds, times the square of the number of failures
CAP = 30.0  # seconds, before jitter


class Backoff:
    """``min(n² × 10 ms, 30 s) × uniform(0.5, 1.5)`` after the n-th failure in a row."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._failures = 0

    def fail(self) -> float:
        """Count a failure; seconds to wait."""
        self._failures += 1
        return min(self._failures**2 * STEP, CAP) * uniform(self._random_bytes, 0.5, 1.5)

    def reset(self) -> None:
        """Something worked."""
        self._failures = 0


def uniform(random_bytes: Callable[[int], bytes], low: float, high: float) -> float:
    """A number in ``[low, high)``."""
    return low + (high - low) * int.from_bytes(random_bytes(6), "big") / 2**48
