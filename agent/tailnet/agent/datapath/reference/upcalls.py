"""What waits for the slow path, bounded."""

from collections import deque

from tailnet.agent.datapath.interface import (
    UPCALL_LIMIT,
    Disco,
    Handshake,
    NewSource,
    RelayOut,
    Stun,
    ToAgent,
    Upcall,
)

# Network traffic, which may get lost; the others come at most once per ask and never get lost.
_LOSSY = (Handshake, Disco, Stun, RelayOut, NewSource, ToAgent)


class UpcallQueue:
    """Oldest first.  When full, whatever the network can repeat is refused."""

    __slots__ = ("_limit", "_queue")

    def __init__(self, limit: int = UPCALL_LIMIT) -> None:
        self._queue: deque[Upcall] = deque()
        self._limit = limit

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, upcall: Upcall) -> bool:
        """False if there was no room."""
        if len(self._queue) >= self._limit and isinstance(upcall, _LOSSY):
            return False
        self._queue.append(upcall)
        return True

    def take(self, limit: int) -> list[Upcall]:
        """At most ``limit``, oldest first."""
        queue = self._queue
        return [queue.popleft() for _ in range(min(limit, len(queue)))]
