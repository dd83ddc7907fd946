"""The replay window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.wireguard.constants import REJECT_AFTER_MESSAGES
from tailnet.agent.wireguard.replay import WINDOW, ReplayWindow


class Naive:
    """The same by remembering everything."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def check_and_set(self, counter: int) -> bool:
        """True for a counter that is new and not too old."""
        top = max(self.seen, default=0)
        if counter >= REJECT_AFTER_MESSAGES or top - counter > WINDOW or counter in self.seen:
            return False
        self.seen.add(counter)
        return True


T = WINDOW + 1

# (counter, accepted) in order; the cases of wireguard-go replay/replay_test.go, with our window.
SEQUENCE = [
    (0, True), (1, True), (1, False), (9, True), (8, True), (7, True), (7, False),
    (T, True), (T - 1, True), (T - 1, False), (T - 2, True), (2, True), (2, False),
    (T + 16, True), (3, False), (T + 16, False), (T * 4, True), (T * 4 - (T - 1), True),
    (10, False), (T * 4 - T, False), (T * 4 - (T + 1), False), (T * 4 - (T - 2), True),
    (T * 4 + 1 - T, False), (0, False), (REJECT_AFTER_MESSAGES, False),
    (REJECT_AFTER_MESSAGES - 1, True), (REJECT_AFTER_MESSAGES, False),
    (REJECT_AFTER_MESSAGES - 1, False), (REJECT_AFTER_MESSAGES - 2, True),
    (REJECT_AFTER_MESSAGES + 1, False), (REJECT_AFTER_MESSAGES + 2, False),
    (REJECT_AFTER_MESSAGES - 2, False), (REJECT_AFTER_MESSAGES - 3, True), (0, False),
]  # fmt: skip


def test_sequence_of_upstream() -> None:
    """Each counter of the known sequence is judged as upstream judges it."""
    window = ReplayWindow()
    assert [(c, window.check_and_set(c)) for c, _ in SEQUENCE] == SEQUENCE


@pytest.mark.parametrize("order", ["up", "down"])
def test_a_whole_window_in_any_direction_is_accepted_once(order: str) -> None:
    """All of a window pass, in either order, and none twice."""
    window = ReplayWindow()
    counters = list(range(WINDOW + 1))
    if order == "down":
        counters.reverse()
    assert all(window.check_and_set(c) for c in counters)
    assert not any(window.check_and_set(c) for c in counters)


def test_gap_of_8128_is_inside_and_8129_outside() -> None:
    """The window is as wide as two paths in parallel need."""
    window = ReplayWindow()
    assert window.check_and_set(20_000)
    assert window.check_and_set(20_000 - 8128)
    assert not window.check_and_set(20_000 - 8129)


def test_a_path_that_is_8000_packets_behind_loses_none() -> None:
    """Even counters by one way and odd ones by the other, each once although sent twice."""
    window = ReplayWindow()
    for at in range(2, 20_000, 2):
        assert window.check_and_set(at)
        if at > 8000:
            assert window.check_and_set(at - 8001)
            assert not window.check_and_set(at - 8000)


@given(
    st.lists(
        st.one_of(
            st.integers(-9000, 9000),
            st.integers(-20, 20),
            st.sampled_from([7, 8, 9, 64, 8128, 8184, 8191, 8192, 8193, -8128, -8129, 1 << 40]),
        ),
        max_size=200,
    )
)
def test_equals_the_naive_window(steps: list[int]) -> None:
    """Any walk of counters gets the same answers as a set."""
    window, naive, at = ReplayWindow(), Naive(), 0
    for step in steps:
        counter = max(0, at + step)
        assert window.check_and_set(counter) == naive.check_and_set(counter)
        at = max(at, counter)
