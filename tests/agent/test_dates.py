"""Dates of the daemon's clock."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.dates import STEP, Dates

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
