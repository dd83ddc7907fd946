"""Whether a peer still is at the address that we trust, when it behaves as if it were not.

A trusted path is good for 6.5 s after a pong.  But a peer that sends from elsewhere, or asks to be
called although we have a path to it, has probably moved, and what we send is lost.  Then the path
is asked at once, three times, and believed only if it answers within a moment::

      sends from elsewhere,     ask     again   again   verdict
      or calls                   ├───────┼───────┼───────┤
                                 0      1/3     2/3    0.3 s, or 3 round trips

A peer that moves may have both networks for a moment, and its old address answers once more.  So
where data came from elsewhere, a path that stood the test is tested a second time, after the floor;
then it is believed, and not tested again all the time: two machines with several addresses may
rightly use different ones in the two directions::

      data from elsewhere          again                another sign within the floor: again
             ├── pong ───────────────┼── pong ───────────────┼───────
             0                      0.5 s                   1.0 s

Where silence alone was the sign, a word from the peer ends the test: a link that became slow
between two packets answers later than the test waits.
"""

from enum import Enum, auto

LEAST = 0.3  # seconds for the answer; a lost path costs as much
ASKED = 3  # times; on a link that loses a fifth, one answer in three, two are not enough
ROUND_TRIPS = 3  # or as many, where they take longer
FLOOR = 0.5  # seconds from a test that a path stood to its next one


class Due(Enum):
    """What a test wants now."""

    NOTHING = auto()
    ASK = auto()
    VERDICT = auto()


class Sign(Enum):
    """That the peer may no longer be where we send to."""

    SOURCE = auto()  # its data comes from elsewhere
    HINT = auto()  # it pings from elsewhere, calls, or sends by a relay
    SILENCE = auto()  # it does not answer data


class Doubt:
    """At most one test at a time."""

    __slots__ = (
        "_again_at",
        "_asked",
        "_began",
        "_rests_until",
        "_silent",
        "_since",
        "_twice",
        "_wait",
    )

    def __init__(self) -> None:
        self._began = 0.0  # when the peer first behaved so, this time
        self._since: float | None = None  # when the test under way began
        self._wait = 0.0  # for the answer
        self._asked = 0  # times, in the test under way
        self._silent = False  # the test under way is because of silence alone
        self._twice = False  # another test follows if the path stands it
        self._again_at: float | None = None  # when the path is tested once more
        self._rests_until = 0.0  # no test begins before

    @property
    def began(self) -> float:
        """When the first of the latest tests began [s]."""
        return self._began

    def begin(self, now: float, latency: float, sign: Sign) -> bool:
        """The peer behaves as if it had moved; whether to ask the path now."""
        if self._since is not None or self._again_at is not None:
            self._twice |= sign is Sign.SOURCE
            self._silent &= sign is Sign.SILENCE
            return False
        self._began, self._wait = now, max(LEAST, ROUND_TRIPS * latency)
        if now < self._rests_until:
            self._again_at = self._rests_until
            return False
        self._test(now, twice=sign is Sign.SOURCE, silent=sign is Sign.SILENCE)
        return True

    def _test(self, now: float, *, twice: bool = False, silent: bool = False) -> None:
        self._since, self._asked = now, 1
        self._twice, self._silent = twice, silent

    def answered(self, sent_at: float) -> None:
        """The path answered what was asked at ``sent_at``."""
        if self._since is None or sent_at < self._since:
            return
        next_at = self._since + FLOOR
        self._since = None
        if self._twice:
            self._again_at = next_at
        else:
            self._rests_until = next_at

    def heard(self) -> None:
        """The peer answers data again."""
        if self._silent:
            self._since = None

    def clear(self) -> None:
        """There is another path, or none."""
        self._since = self._again_at = None
        self._rests_until = 0.0

    def handle_timeout(self, now: float) -> Due:
        """Run what is due."""
        at = self.deadline()
        if at is None or now < at:
            return Due.NOTHING
        if self._again_at is not None:
            self._again_at = None
            self._test(now)
            return Due.ASK
        if self._asked < ASKED:
            self._asked += 1
            return Due.ASK
        self._since = None
        return Due.VERDICT

    def deadline(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]."""
        if self._again_at is not None or self._since is None:
            return self._again_at
        return self._since + self._wait * self._asked / ASKED
