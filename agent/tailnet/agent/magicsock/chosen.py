"""The path by UDP that is in use, and how far it is trusted."""

from tailnet.agent.magicsock.choice import Quality, better
from tailnet.agent.magicsock.why import Why

TRUST_DURATION = 6.5  # seconds after a pong


class Chosen:
    """At most one path, direct or through a peer relay.

    Attributes:
        best: the path, trusted or not.
        since: when it was chosen, or trusted anew [s].
        trusted_until: when the trust ends without another pong [s]; ``None`` if there is none.
        why: what last changed the path or the trust in it.
    """

    __slots__ = ("best", "since", "trusted_until", "why")

    def __init__(self) -> None:
        self.best: Quality | None = None
        self.since = 0.0
        self.trusted_until: float | None = None
        self.why = Why.NOTHING

    @property
    def trusted(self) -> bool:
        """True while ``best`` alone is enough."""
        return self.trusted_until is not None

    @property
    def settled(self) -> bool:
        """True while nothing better in kind is looked for: a direct path is trusted."""
        return self.trusted and self.best is not None and self.best.direct

    def credit(self, quality: Quality, now: float) -> bool:
        """A path works: use it if it is the best, and trust it.

        Returns:
            Whether it is used.
        """
        if self.best is None or not self.trusted:
            self.since = now
            self.why = Why.ANSWERED if quality.direct else Why.RELAYED
        elif self.best.addr != quality.addr:
            if not better(quality, self.best):
                return False
            self.since, self.why = now, Why.BETTER
        self.best, self.trusted_until = quality, now + TRUST_DURATION
        return True

    def move(self, quality: Quality, now: float, why: Why = Why.MOVED) -> None:
        """The peer is elsewhere now, and answered there."""
        self.best, self.trusted_until, self.why = quality, now + TRUST_DURATION, why
        self.since = now

    def distrust(self, why: Why) -> None:
        """The path may work again, but is not enough alone."""
        self.trusted_until, self.why = None, why

    def drop(self, why: Why) -> None:
        """The path leads nowhere."""
        self.best = None
        self.distrust(why)

    def lapse(self, now: float) -> bool:
        """End the trust if its time is over; whether it was."""
        if self.trusted_until is None or now < self.trusted_until:
            return False
        self.distrust(Why.LAPSED)
        return True
