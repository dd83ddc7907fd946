"""Deadlines of the few among many."""

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.magicsock.deadlines import Deadlines

steps = st.lists(
    st.tuples(st.integers(0, 5), st.none() | st.integers(0, 100), st.booleans()), max_size=300
)


@given(steps)
def test_behaves_as_a_plain_table(actions: list[tuple[int, int | None, bool]]) -> None:
    """Same earliest deadline and same expiries as a dict, and no more memory than twice that."""
    fast: Deadlines[int] = Deadlines()
    naive: dict[int, float] = {}
    for key, at, expire in actions:
        if expire and at is not None:
            due = sorted(k for k, t in naive.items() if t <= at)
            assert sorted(fast.expire(at)) == due
            naive = {k: t for k, t in naive.items() if k not in due}
        else:
            fast.set(key, at)
            if at is None:
                naive.pop(key, None)
            else:
                naive[key] = at
        assert fast.next_timeout() == min(naive.values(), default=None)
        assert len(fast._heap) <= 2 * len(naive) + 70
