"""Dates of the daemon's clock, and of the control server."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.dates import OFF, SAYABLE, STEP, Calendar, Dates

BOOT = datetime(2026, 11, 29, 12, tzinfo=UTC)


class Clocks:
    """Both, by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.ahead = timedelta(0)

    def read(self) -> float:
        """The daemon's."""
        return self.now

    def date(self) -> datetime:
        """The one on the wall."""
        return BOOT + timedelta(seconds=self.now) + self.ahead


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-0.9, 0.9)), max_size=20))
def test_what_was_keeps_its_date(readings: list[tuple[float, float]]) -> None:
    """However late it is asked, and however the two clocks are steered beside each other."""
    clocks = Clocks()
    dates = Dates(clocks.read, clocks.date)
    first = dates.of(42.5)
    for later, steered in readings:
        clocks.now, clocks.ahead = 100 + later, timedelta(seconds=steered)
        assert dates.of(42.5) == first == BOOT + timedelta(seconds=42.5)


def test_a_clock_that_is_set_moves_the_dates() -> None:
    """A machine that started in 1970 tells the right ones as soon as it knows."""
    clocks = Clocks()
    dates = Dates(clocks.read, clocks.date)
    for set_by in (timedelta(days=20_000), -timedelta(hours=1), STEP * 1.01):
        before, clocks.ahead = clocks.ahead, set_by
        assert abs(set_by - before) > STEP
        assert dates.of(50) == BOOT + timedelta(seconds=50) + set_by


@given(
    told=st.floats(-1e9, 1e9),
    later=st.floats(0, 1e7),
    set_by=st.floats(-1e9, 1e9),
)
def test_the_servers_date_goes_on_whatever_is_done_to_ours(
    told: float, later: float, set_by: float
) -> None:
    """NTP, a person, a battery: setting the clock of this machine expires no key."""
    clocks = Clocks()
    calendar = Calendar(clocks.read, clocks.date)
    date = BOOT + timedelta(seconds=told)
    calendar.note(date)
    clocks.now, clocks.ahead = clocks.now + later, timedelta(seconds=set_by)
    assert abs((calendar.today() - date).total_seconds() - later) < 1e-3
    off = (calendar.today() - clocks.date()).total_seconds()
    assert calendar.ahead == (off if abs(off) > OFF else 0)


def test_without_a_server_the_date_is_ours() -> None:
    """Also after it was set."""
    clocks = Clocks()
    calendar = Calendar(clocks.read, clocks.date)
    for ahead in (timedelta(0), timedelta(days=9)):
        clocks.ahead = ahead
        assert calendar.today() == calendar.here() == clocks.date()
        assert calendar.ahead == 0


def test_what_a_server_tells_beats_a_guess() -> None:
    """A kept map says when it was kept; that is the earliest that it can be now."""
    clocks = Clocks()
    calendar = Calendar(clocks.read, clocks.date)
    calendar.guess(BOOT)
    assert calendar.today() == BOOT
    calendar.note(BOOT + timedelta(days=1))
    calendar.guess(BOOT)
    assert calendar.today() == BOOT + timedelta(days=1)


@given(st.datetimes(timezones=st.just(UTC)))
def test_whatever_date_a_server_says_there_is_one_now(told: datetime) -> None:
    """Also after a year, and none that cannot be reckoned with."""
    clocks = Clocks()
    calendar = Calendar(clocks.read, clocks.date)
    calendar.note(told)
    clocks.now += 366 * 86_400
    sayable = SAYABLE[0] <= told <= SAYABLE[1]
    expected = told + timedelta(days=366) if sayable else clocks.date()
    assert abs((calendar.today() - expected).total_seconds()) < 1e-3
    assert isinstance(calendar.ahead, float)
