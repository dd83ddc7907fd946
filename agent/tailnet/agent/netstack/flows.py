"""What is remembered of peers' datagrams: a bounded number of flows, the idlest forgotten first.

Each peer has a share of the table, so one that opens flow after flow pushes out its own.
"""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from tailnet.agent.addr import IPAddress

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class _Entry(Generic[V]):
    peer: IPAddress
    used: float
    value: V


class Flows(Generic[K, V]):
    """Flows by key, from the longest idle to the latest used.

    Args:
        limit: how many; one peer has three quarters of it at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._peers: Counter[IPAddress] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def use(self, key: K, now: float) -> V | None:
        """The flow, if it is there; it is now the latest used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.used = now
        self._entries.move_to_end(key)
        return entry.value

    def victim(self, peer: IPAddress) -> K | None:
        """Which has to go before ``peer`` may have another."""
        if self._peers[peer] >= max(1, self._limit * 3 // 4):
            whose = peer
        elif len(self._entries) >= self._limit:
            [(whose, _)] = self._peers.most_common(1)
        else:
            return None
        return next(key for key, entry in self._entries.items() if entry.peer == whose)

    def add(self, key: K, peer: IPAddress, value: V, now: float) -> None:
        """A new flow of ``peer``; there is no such key yet."""
        self._entries[key] = _Entry(peer, now, value)
        self._peers[peer] += 1

    def remove(self, key: K) -> V | None:
        """Forget it."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._peers[entry.peer] -= 1
        if not self._peers[entry.peer]:
            del self._peers[entry.peer]
        return entry.value

    def idle(self, now: float) -> Iterator[tuple[K, float]]:
        """All, and for how long they have been idle."""
        return iter([(key, now - entry.used) for key, entry in self._entries.items()])
