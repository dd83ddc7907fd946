"""A peer that should have answered and did not: when its path is to be tested."""

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.magicsock.silence import PATIENCE, STREAMING, Silence


def test_a_silence_is_found_when_it_is_long_enough() -> None:
    """Counted from the first data that nothing followed."""
    it = Silence()
    it.listen(1.0)
    assert not it.handle_timeout(1.0, 1.0, 1.0, 0.0)
    assert it.at == 1.0 + PATIENCE
    assert not it.handle_timeout(it.at, 1.5, 1.4, 0.0)
    assert it.at == 1.4 + PATIENCE
    assert it.handle_timeout(it.at, 1.9, 1.4, 0.0)


def test_a_slow_path_has_more_time() -> None:
    """Nobody answers sooner than a round trip."""
    it = Silence()
    it.listen(1.0)
    assert not it.handle_timeout(2.0, 2.0, 1.0, 0.8)
    assert it.at == 2.6


def test_nobody_is_asked_while_nothing_is_sent() -> None:
    """Until data leaves again."""
    it = Silence()
    it.listen(1.0)
    assert not it.handle_timeout(1.0 + PATIENCE + STREAMING, 1.0, 1.0, 0.0)
    assert it.at is None
    it.listen(9.0)
    assert it.at is not None


@given(st.lists(st.tuples(st.floats(0.01, 3), st.booleans()), max_size=60), st.floats(0, 1))
def test_a_silence_is_one_reason(steps: list[tuple[float, bool]], latency: float) -> None:
    """However long it is; and the next look is always later."""
    it, now, unheard, tested = Silence(), 1.0, 1.0, 0
    silences = {unheard}
    for gap, heard in steps:
        it.listen(now)
        now += gap
        if heard:
            unheard = now
            silences.add(unheard)
        tested += it.handle_timeout(now, now, unheard, latency)
        assert it.at is not None
        assert it.at > now or it.at >= unheard + PATIENCE
    assert tested <= len(silences)
