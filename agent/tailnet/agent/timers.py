"""A table of deadlines for a core that never sleeps."""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class TimerTable(Generic[K]):
    """Named one-shot deadlines; the core asks for the next one and expires them itself.

    Times are seconds as ``float`` from the same clock as every ``now``.  Linear in the number of
    armed timers: one table belongs to one small machine, not to ten thousand peers.
    """

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at: dict[K, float] = {}

    def arm(self, key: K, at: float) -> None:
        """Set the deadline of ``key``, replacing any earlier one."""
        self._at[key] = at

    def stop(self, key: K) -> None:
        """Forget the deadline of ``key``, if any."""
        self._at.pop(key, None)

    def clear(self) -> None:
        """Forget every deadline."""
        self._at.clear()

    def armed(self, key: K) -> float | None:
        """Deadline of ``key`` [s], or ``None``."""
        return self._at.get(key)

    def next_timeout(self) -> float | None:
        """Earliest deadline [s], or ``None`` when nothing is armed."""
        return min(self._at.values(), default=None)

    def expire(self, now: float) -> list[K]:
        """Remove and return what is due at ``now``, earliest first."""
        due = sorted((at, i, k) for i, (k, at) in enumerate(self._at.items()) if at <= now)
        for _, _, key in due:
            del self._at[key]
        return [key for _, _, key in due]
