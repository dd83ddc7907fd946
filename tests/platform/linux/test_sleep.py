"""How long the host was away, from clocks alone."""

from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.linux.netmon.sleep import LEAST, LEAST_STOPPED, Sleep

SECONDS = st.floats(0, 1e6)


@given(SECONDS, st.floats(LEAST + 0.001, 1e6), SECONDS)  # at the border, rounding decides
def test_suspend_is_seen_once_whatever_becomes_of_the_calendar(
    awake: float, suspended: float, adjusted: float
) -> None:
    """Somebody may set the time right after waking up; it is still one absence."""
    sleep = Sleep(10.0, 10.0, 1e9)
    boot = 10 + awake + suspended
    assert sleep.handle(boot, 10 + awake, 1e9 + awake + suspended) >= LEAST
    assert sleep.handle(boot, 10 + awake, 1e9 + awake + suspended - adjusted) == 0


@given(st.lists(st.floats(0, 100), max_size=20))
def test_time_that_passes_is_no_absence(steps: list[float]) -> None:
    """All clocks go on together."""
    sleep, at = Sleep(10.0, 10.0, 1e9), 10.0
    for step in steps:
        at += step
        assert sleep.handle(at, at, 1e9 + at - 10) == 0


def test_naps_add_up_until_they_count() -> None:
    """Three of two seconds are more than five."""
    sleep = Sleep(0.0, 0.0, 0.0)
    assert [sleep.handle(t, 0.0, t) for t in (2.0, 4.0, 6.0, 6.0)] == [0, 0, 6.0, 0]


def test_a_machine_stopped_from_outside_shows_in_the_calendar() -> None:
    """When the time is corrected; small corrections, and those backwards, mean nothing."""
    sleep = Sleep(0.0, 0.0, 1e9)
    assert sleep.handle(15.0, 15.0, 1e9 + 15 + LEAST_STOPPED) == LEAST_STOPPED
    assert sleep.handle(30.0, 30.0, 1e9 + 30 + LEAST_STOPPED + 20) == 0
    assert sleep.handle(45.0, 45.0, 1e9 - 3600) == 0
