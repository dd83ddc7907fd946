"""Where a peer's data comes from, if that is not where ours goes.

A peer sends by the route that it has now.  If it answers there as well as where we send to, it is
followed at once: it has probably moved, and its old network ends in a moment.  An address that is
worse in kind (a router's outer side next to a LAN) or clearly slower is not taken for that.

Two that share two networks might follow each other at the same time, and for ever: after following
once nobody follows for a while, and both use the one network in one direction.
"""

from tailnet.agent.addr import AddrPort
from tailnet.agent.magicsock.choice import Quality, as_good

FOLLOWED_FOR = 1.0  # seconds in which an answer from there counts
FLOOR = 1.5  # seconds after following in which a path must fail to be left


class Elsewhere:
    """Of one peer."""

    __slots__ = ("_at", "_rests_until", "_src")

    def __init__(self) -> None:
        self._src: AddrPort | None = None
        self._at = self._rests_until = 0.0

    def note(self, src: AddrPort, now: float) -> None:
        """Data begins to come from ``src``."""
        self._src, self._at = src, now

    def leads_to(self, answered: Quality, best: Quality, now: float) -> bool:
        """Whether ``answered`` takes the place of ``best``, which works as well; then it does."""
        if self._src != answered.addr or now - self._at > FOLLOWED_FOR:
            return False
        if now < self._rests_until or answered.addr == best.addr or not as_good(answered, best):
            return False
        self._rests_until = now + FLOOR
        return True
