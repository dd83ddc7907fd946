"""The table of deadlines."""

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.timers import TimerTable

TIMES = st.floats(0, 100)


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), TIMES))), TIMES)
def test_table_equals_a_dictionary(steps: list[tuple[int, float | None]], now: float) -> None:
    """Arming replaces, stopping forgets, expiring takes what is due, earliest first."""
    table: TimerTable[int] = TimerTable()
    model: dict[int, float] = {}
    for key, at in steps:
        if at is None:
            table.stop(key)
            model.pop(key, None)
        else:
            table.arm(key, at)
            model[key] = at
        assert table.armed(key) == model.get(key)
        assert table.next_timeout() == min(model.values(), default=None)
    due = table.expire(now)
    assert {*due} == {key for key, at in model.items() if at <= now}
    assert [model[key] for key in due] == sorted(model[key] for key in due)
    assert table.expire(now) == []
    left = table.next_timeout()
    assert left is None or left > now


def test_clear_forgets_all() -> None:
    """Nothing is armed after."""
    table: TimerTable[str] = TimerTable()
    table.arm("a", 1.0)
    table.clear()
    assert table.next_timeout() is None
