"""One deadline per peer, for ten thousand peers of which few are awake."""

import heapq

from tailnet.agent.keys import PeerId


class Schedule:
    """A heap of deadlines; moving one costs O(log n), a peer without one costs nothing.

    Moved deadlines leave their old entry in the heap; it is skipped when it comes up, and the heap
    is rebuilt when such entries are the majority.
    """

    def __init__(self) -> None:
        self._at: dict[PeerId, float] = {}
        self._heap: list[tuple[float, PeerId]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, peer: PeerId, at: float | None) -> None:
        """Replace the deadline of ``peer``; ``None`` forgets it."""
        if at is None:
            self._at.pop(peer, None)
        elif self._at.get(peer) != at:
            self._at[peer] = at
            heapq.heappush(self._heap, (at, peer))
            if len(self._heap) > 2 * len(self._at) + 64:
                self._heap = [(at, peer) for peer, at in self._at.items()]
                heapq.heapify(self._heap)

    def next_timeout(self) -> float | None:
        """The earliest deadline [s]."""
        while self._heap:
            at, peer = self._heap[0]
            if self._at.get(peer) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def pop(self, now: float) -> PeerId | None:
        """Forget and return the earliest peer that is due at ``now``."""
        at = self.next_timeout()
        if at is None or at > now:
            return None
        _, peer = heapq.heappop(self._heap)
        del self._at[peer]
        return peer
