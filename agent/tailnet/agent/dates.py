"""``Dates``: the date of a time of the daemon's clock, the same whenever it is asked."""

from collections.abc import Callable
from datetime import datetime, timedelta

# More than lies between two readings.  NTP steers both clocks alike; it sets the date for more.
STEP = timedelta(seconds=1)


class Dates:
    """Two clocks, read one after the other, never differ twice by the same microsecond.

    What happened at one moment must not seem to have happened at another when it is asked again: a
    script that compares ``LastHandshake`` would see handshakes that never were.  So the difference
    is measured once, and again when somebody has set the date.
    """

    def __init__(self, now: Callable[[], float], wall: Callable[[], datetime]) -> None:
        """``now``: the daemon's clock [s]; ``wall``: the date."""
        self._now = now
        self._wall = wall
        self._origin = self._measured()

    def today(self) -> datetime:
        """The date now."""
        return self._wall()

    def of(self, at: float) -> datetime:
        """The date of the time ``at`` of the daemon's clock."""
        measured = self._measured()
        if abs(measured - self._origin) > STEP:
            self._origin = measured
        return self._origin + timedelta(seconds=at)

    def _measured(self) -> datetime:
        """The date of the daemon's clock's zero."""
        return self._wall() - timedelta(seconds=self._now())
