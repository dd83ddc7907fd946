"""Whether a peer still is at the address that we trust, when it behaves as if it were not.

A trusted path is good for 6.5 s after a pong.  But a peer that sends from elsewhere, or asks to be
called although we have a path to it, has probably moved, and what we send is lost.  Then the path
is asked at once, twice, and believed only if it answers within a moment::

      sends from elsewhere,     ask      ask again     verdict
      or calls                   ├───────────┼───────────┤
                                 0          1/2       0.3 s, or 3 round trips

A path that stood the test is not tested again at once: two machines with several addresses may
rightly use different ones in the two directions.
"""

from enum import Enum, auto

LEAST = 0.3  # seconds for the answer; a lost path costs as much
ROUND_TRIPS = 3  # or as many, where they take longer
FLOOR = 0.5  # seconds from a test that a path stood to its next one


class Due(Enum):
    """What a test wants now."""

    NOTHING = auto()
    ASK = auto()
    VERDICT = auto()


class Doubt:
    """At most one test at a time."""

    __slots__ = ("_asked_twice", "_since", "_stood_at", "_wait")

    def __init__(self) -> None:
        self._since: float | None = None
        self._stood_at: float | None = None  # when the test began that the path stood
        self._wait = 0.0  # of the test under way; 0 if there is none
        self._asked_twice = False

    @property
    def began(self) -> float:
        """When the latest test began [s]."""
        return self._since or 0.0

    @property
    def since(self) -> float | None:
        """When the test under way began [s]; ``None`` if there is none."""
        return self._since if self._wait else None

    def begin(self, now: float, latency: float) -> bool:
        """The peer behaves as if it had moved; whether to ask the path now."""
        if self._wait or (self._stood_at is not None and now - self._stood_at < FLOOR):
            return False
        self._since, self._wait = now, max(LEAST, ROUND_TRIPS * latency)
        self._asked_twice = False
        return True

    def answered(self, sent_at: float) -> None:
        """The path answered what was asked at ``sent_at``."""
        if self.since is not None and sent_at >= self.since:
            self._stood_at, self._wait = self._since, 0.0

    def clear(self) -> None:
        """There is another path, or none."""
        self._stood_at, self._wait = None, 0.0

    def handle_timeout(self, now: float) -> Due:
        """Run what is due."""
        at = self.deadline()
        if at is None or now < at:
            return Due.NOTHING
        if not self._asked_twice:
            self._asked_twice = True
            return Due.ASK
        self._wait = 0.0
        return Due.VERDICT

    def deadline(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]."""
        if self._since is None or not self._wait:
            return None
        return self._since + (self._wait if self._asked_twice else self._wait / 2)
