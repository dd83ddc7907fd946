"""Our own endpoints, and the peers that wait to be told them."""

from collections.abc import Iterable

from tailnet.agent.addr import AddrPort
from tailnet.agent.keys import PeerId

FRESH = 27.0  # seconds; what is older is told all the same, and again if it proves wrong


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

    @property
    def of_this_network(self) -> bool:
        """Worth telling, however old: a NAT forgets after 30 s, but seldom gives another port."""
        return self._at is not None

    def fresh(self, now: float) -> bool:
        """Surely right."""
        return self._at is not None and now - self._at <= FRESH

    def make_stale(self) -> None:
        """We are on another network."""
        self._at = None

    def set(
        self, endpoints: tuple[AddrPort, ...], now: float, searching: Iterable[PeerId]
    ) -> Iterable[PeerId]:
        """Freshly measured.

        Returns:
            Peers to call now: if something is new those that wait and the ``searching`` ones, and
            in another network those that wait in any case.
        """
        waiting = self._waiting
        if set(endpoints) != set(self.known):
            waiting |= dict.fromkeys(searching)
        elif self.of_this_network:
            waiting = {}  # they were told these
        self.known, self._at, self._asked_at, self._waiting = endpoints, now, None, {}
        return waiting

    def wait(self, peer: PeerId, now: float) -> bool:
        """The peer is called if fresh ones are others; true if somebody must find them."""
        self._waiting[peer] = None
        if self._asked_at is not None and now - self._asked_at <= FRESH:
            return False
        self._asked_at = now
        return True

    def forget(self, peer: PeerId) -> None:
        """The peer is gone."""
        self._waiting.pop(peer, None)
