"""Deadlines of many peers."""

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.keys import PeerId
from tailnet.agent.wireguard.schedule import Schedule

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(1, 6), st.integers(0, 30)),
        st.tuples(st.just("stop"), st.integers(1, 6), st.just(0)),
        st.tuples(st.just("pop"), st.just(0), st.integers(0, 30)),
    )
)


@given(STEPS)
def test_equals_a_dictionary(steps: list[tuple[str, int, int]]) -> None:
    """The earliest of all, whatever was moved."""
    schedule, naive = Schedule(), dict[PeerId, float]()
    for step, n, at in steps:
        peer = PeerId(n)
        if step == "set":
            schedule.set(peer, at)
            naive[peer] = at
        elif step == "stop":
            schedule.set(peer, None)
            naive.pop(peer, None)
        else:
            got = schedule.pop(at)
            due = [t for t in naive.values() if t <= at]
            assert (got is None) == (not due)
            if got is not None:
                assert naive.pop(got) == min(due)
        assert schedule.next_timeout() == min(naive.values(), default=None)
        assert len(schedule) == len(naive)


def test_moved_deadlines_do_not_pile_up() -> None:
    """Moving one deadline for ever takes bounded memory."""
    schedule = Schedule()
    for n in range(10_000):
        schedule.set(PeerId(1), 1e6 - n)
        schedule.set(PeerId(2), float(n))
    assert len(schedule._heap) < 100
