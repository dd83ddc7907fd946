"""Dates that stay right when somebody sets the clock of this machine."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

# More than lies between two readings.  NTP steers both clocks alike; it sets the date for more.
STEP = timedelta(seconds=1)
OFF = 60.0  # seconds; less is no wrong clock. tailscale ipn/ipnlocal/expiry.go, minClockDelta

# What a server may say: seconds can be added to it, and taken from it, for some centuries.
SAYABLE = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class Calendar:
    """The control server's date: once told, it goes on by the daemon's clock.

    Keys expire by it.  Upstream adds the difference that there was to the date of this machine.
    That is wrong as soon as somebody sets the date: a machine without a clock of its own joins
    with the date at which it was switched off, a minute later NTP sets the right one, and what is
    added then would expire every key that ends within the time it was off.
    """

    def __init__(self, now: Callable[[], float], wall: Callable[[], datetime]) -> None:
        """``now``: the daemon's clock [s]; ``wall``: the date of this machine."""
        self._now = now
        self._wall = wall
        self._origin: datetime | None = None

    def note(self, told: datetime) -> None:
        """A server says that this is the date; one that no clock has is not believed."""
        earliest, latest = SAYABLE
        if earliest <= told <= latest:
            self._origin = told - timedelta(seconds=self._now())

    def guess(self, date: datetime) -> None:
        """No server has told yet, and this is the date by what one told before the start."""
        if self._origin is None:
            self.note(date)

    def today(self) -> datetime:
        """The date now; that of this machine while nobody has told a better one."""
        if self._origin is None:
            return self._wall()
        return self._origin + timedelta(seconds=self._now())

    def here(self) -> datetime:
        """The date of this machine."""
        return self._wall()

    @property
    def ahead(self) -> float:
        """How far the server is ahead of this machine [s]; 0 below a minute."""
        seconds = (self.today() - self._wall()).total_seconds()
        return seconds if abs(seconds) > OFF else 0.0


class Dates:
    """The date of a time of the daemon's clock, the same whenever it is asked.

    Two clocks, read one after the other, never differ twice by the same microsecond.

    What happened at one moment must not seem to have happened at another when it is asked again: a
    script that compares ``LastHandshake`` would see handshakes that never were.  So the difference
    is measured once, and again when somebody has set the date.
    """

    def __init__(self, now: Callable[[], float], wall: Callable[[], datetime]) -> None:
        """``now``: the daemon's clock [s]; ``wall``: the date."""
        self._now = now
        self._wall = wall
        self._origin = self._measured()

    def of(self, at: float) -> datetime:
        """The date of the time ``at`` of the daemon's clock."""
        measured = self._measured()
        if abs(measured - self._origin) > STEP:
            self._origin = measured
        return self._origin + timedelta(seconds=at)

    def _measured(self) -> datetime:
        """The date of the daemon's clock's zero."""
        return self._wall() - timedelta(seconds=self._now())
