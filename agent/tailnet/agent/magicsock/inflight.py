"""Pings that wait for their pong."""

from collections.abc import Iterator
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, ViaAddr

PING_TIMEOUT = 5.0  # seconds
MAX_SENT = 512  # pings without answer; the oldest is forgotten


class Sent(NamedTuple):
    """One ping.

    Attributes:
        to: address, or a session at a peer relay; ``None`` through DERP.
        at: seconds.
        ticket: of the user who wants to know; ``None`` if nobody does.
        size: of the IP packet in bytes, 0 for the smallest.
    """

    to: AddrPort | ViaAddr | None
    at: float
    ticket: int | None = None
    size: int = 0


class InFlight:
    """Pings by transaction id, oldest first."""

    __slots__ = ("_sent",)

    def __init__(self) -> None:
        self._sent: dict[bytes, Sent] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, txid: bytes, sent: Sent) -> None:
        """A ping left."""
        if len(self._sent) >= MAX_SENT:
            del self._sent[next(iter(self._sent))]
        self._sent[txid] = sent

    def take(self, txid: bytes) -> Sent | None:
        """Its pong came; ``None`` if none of ours has this transaction id."""
        return self._sent.pop(txid, None)

    def settle(self, ticket: int) -> None:
        """The user knows; later pongs for the same question tell nobody."""
        for txid, sent in self._sent.items():
            if sent.ticket == ticket:
                self._sent[txid] = sent._replace(ticket=None)

    def expire(self, now: float) -> Iterator[Sent]:
        """Remove and yield those whose time is up."""
        for txid, sent in list(self._sent.items()):
            if now < sent.at + PING_TIMEOUT:
                return
            del self._sent[txid]
            yield sent

    def deadline(self) -> float | None:
        """When the oldest one's time is up [s]."""
        return next((sent.at + PING_TIMEOUT for sent in self._sent.values()), None)

    def clear(self) -> None:
        """Answers are not wanted any longer."""
        self._sent.clear()
