"""Our own endpoints, and the peers that wait to be told them."""

from collections.abc import Iterable

from tailnet.agent.addr import AddrPort
from tailnet.agent.keys import PeerId

FRESH = 27.0  # seconds; older endpoints are not worth a CallMeMaybe


class OwnEndpoints:
    """Where we are, and since when we know.

    Attributes:
        known: addresses, best first.
    """

    def __init__(self) -> None:
        self.known: tuple[AddrPort, ...] = ()
        self._at: float | None = None
        self._asked_at: float | None = None  # for fresh ones, not yet answered
        self._waiting: dict[PeerId, None] = {}

    def fresh(self, now: float) -> bool:
        """Worth telling."""
        return self._at is not None and now - self._at <= FRESH

    def make_stale(self) -> None:
        """We are on another network."""
        self._at = None

    def set(
        self, endpoints: tuple[AddrPort, ...], now: float, searching: Iterable[PeerId]
    ) -> Iterable[PeerId]:
        """Freshly measured.

        Returns:
            Peers to call now: those that wait, and the ``searching`` ones if something is new.
        """
        waiting = self._waiting
        if set(endpoints) != set(self.known):
            waiting |= dict.fromkeys(searching)
        self.known, self._at, self._asked_at, self._waiting = endpoints, now, None, {}
        return waiting

    def wait(self, peer: PeerId, now: float) -> bool:
        """The peer is called when there are fresh ones; true if somebody must find them."""
        self._waiting[peer] = None
        if self._asked_at is not None and now - self._asked_at <= FRESH:
            return False
        self._asked_at = now
        return True

    def forget(self, peer: PeerId) -> None:
        """The peer is gone."""
        self._waiting.pop(peer, None)
