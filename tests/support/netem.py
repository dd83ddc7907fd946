"""A bad network in virtual time, the same for the same seed."""

import heapq
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Link:
    """How bad.

    Attributes:
        latency: one way [s].
        spread: uniform extra latency [s]; it reorders.
        loss: share of datagrams lost.
        duplication: share of datagrams that arrive twice.
        corruption: share of datagrams with one bit flipped.
    """

    latency: float = 0.02
    spread: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    corruption: float = 0.0


PERFECT = Link()


class Netem:
    """Datagrams under way between named ends; ``link`` may be changed at any time."""

    def __init__(self, seed: int, link: Link = PERFECT) -> None:
        self.link = link
        self._random = Random(seed)
        self._sent = 0
        self._under_way: list[tuple[float, int, str, bytes]] = []

    def send(self, now: float, dst: str, datagram: bytes) -> None:
        """Put a datagram on the wire."""
        random, link = self._random, self.link
        if random.random() < link.loss:
            return
        for _ in range(2 if random.random() < link.duplication else 1):
            data = datagram
            if datagram and random.random() < link.corruption:
                bad = bytearray(datagram)
                bad[random.randrange(len(bad))] ^= 1 << random.randrange(8)
                data = bytes(bad)
            self._sent += 1
            at = now + link.latency + random.random() * link.spread
            heapq.heappush(self._under_way, (at, self._sent, dst, data))

    def next_at(self) -> float | None:
        """When the next datagram arrives [s]."""
        return self._under_way[0][0] if self._under_way else None

    def arrived(self, now: float) -> tuple[str, bytes] | None:
        """The next datagram that has arrived, with its destination."""
        if not self._under_way or self._under_way[0][0] > now:
            return None
        _, _, dst, datagram = heapq.heappop(self._under_way)
        return dst, datagram
