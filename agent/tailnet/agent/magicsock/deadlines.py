"""Deadlines of the few among many."""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SLACK = 64  # stale heap entries tolerated besides one per live one


class Deadlines(Generic[K]):
    """One deadline [s] per key; setting is logarithmic, keys without deadline cost nothing.

    Entries that were replaced stay in the heap until they surface or become the majority.
    """

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0  # breaks ties, since keys need not compare

    def set(self, key: K, at: float | None) -> None:
        """Replace the deadline of ``key``; ``None`` removes it."""
        if at is None:
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            self._push(key, at)
            if len(self._heap) > 2 * len(self._at) + _SLACK:
                self._heap = [e for e in self._heap if self._at.get(e[2]) == e[0]]
                heapify(self._heap)

    def next_timeout(self) -> float | None:
        """Earliest deadline [s]."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heappop(self._heap)
        return None

    def expire(self, now: float) -> list[K]:
        """Remove and return the keys that are due."""
        due = []
        while (at := self.next_timeout()) is not None and at <= now:
            key = heappop(self._heap)[2]
            del self._at[key]
            due.append(key)
        return due

    def _push(self, key: K, at: float) -> None:
        self._count += 1
        heappush(self._heap, (at, self._count, key))
