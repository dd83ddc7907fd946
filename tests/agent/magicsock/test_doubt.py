"""A peer that behaves as if it had moved: its path is tested, and left if it does not answer."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.magicsock.test_path import A, B, established, pings, run

from tailnet.agent.magicsock.doubt import ASKED, FLOOR, LEAST, ROUND_TRIPS, Doubt, Due, Sign
from tailnet.agent.magicsock.elsewhere import FOLLOWED_FOR
from tailnet.agent.magicsock.path import UNDER_WAY
from tailnet.agent.magicsock.silence import PATIENCE
from tailnet.agent.magicsock.why import Why

TINY = 1e-6  # seconds; floats


def test_a_peer_that_sends_from_elsewhere_is_followed_within_a_moment() -> None:
    """The old path is silent and the new one answers, though it is no better."""
    it = established(B)
    it.note_heard(B, 1.0)
    asked = pings(it)
    assert set(asked) == {A, B}
    assert it.handle_pong(asked[B], 1.2, udp=True)
    assert it.best is not None
    assert it.best.addr == A
    run(it, 1.0 + LEAST)
    assert it.best.addr == B
    assert it.trusted
    assert it.chosen.why is Why.MOVED


def test_a_path_that_answers_stays_and_is_not_tested_all_the_time() -> None:
    """Two machines with several addresses may use different ones in the two directions."""
    it = established(B)
    it.note_heard(B, 1.0)
    asked = pings(it)
    assert it.handle_pong(asked[A], 1.02, udp=True)
    assert it.handle_pong(asked[B], 1.2, udp=True)
    it.note_heard(B, 1.4)
    assert not pings(it)
    run(it, 1.0 + FLOOR)
    again = pings(it)
    assert set(again) == {A}
    assert it.handle_pong(again[A], 1.01 + FLOOR, udp=True)
    run(it, 2.5)
    assert not pings(it)
    assert it.best is not None
    assert it.best.addr == A
    assert it.chosen.why is not Why.MOVED


def test_a_peer_whose_old_address_answers_once_more_is_followed() -> None:
    """It has both networks for a moment, and the datapath tells of the new source only once."""
    it = established(B)
    it.note_heard(B, 1.0)
    asked = pings(it)
    assert it.handle_pong(asked[A], 1.01, udp=True)
    assert it.handle_pong(asked[B], 1.2, udp=True)
    run(it, 1.0 + FLOOR + LEAST)
    assert it.best is not None
    assert it.best.addr == B
    assert it.trusted
    assert it.chosen.why is Why.MOVED


def test_a_peer_is_followed_at_once_where_it_sends_from_if_that_is_as_good() -> None:
    """Its old network may end in a moment."""
    it = established(B)
    it.note_heard(B, 1.0)
    asked = pings(it)
    assert it.handle_pong(asked[A], 1.01, udp=True)
    assert it.handle_pong(asked[B], 1.012, udp=True)
    assert it.best is not None
    assert it.best.addr == B
    assert it.chosen.why is Why.FOLLOWED
    run(it, 2.5)
    assert not pings(it)


def test_a_peer_is_followed_too_if_its_ping_came_before_its_data() -> None:
    """The address has answered already when the data comes."""
    it = established(B)
    it.note_heard(B, 1.0, b"x" * 12)
    assert it.handle_pong(pings(it)[B], 1.01, udp=True)
    assert it.best is not None
    assert it.best.addr == A
    it.note_heard(B, 1.02)
    assert it.best.addr == B
    assert it.chosen.why is Why.FOLLOWED
    assert not pings(it)


def test_an_answer_long_after_data_came_from_there_is_no_reason_to_follow() -> None:
    """It may send from where we send to again, which nobody tells."""
    it = established(B)
    it.note_heard(B, 1.0)
    asked = pings(it)
    assert it.handle_pong(asked[A], 1.01, udp=True)
    assert it.handle_pong(asked[B], 1.1 + FOLLOWED_FOR, udp=True)
    assert it.best is not None
    assert it.best.addr == A


def test_two_lost_answers_are_not_enough() -> None:
    """The path is asked three times."""
    it = established(B)
    it.note_heard(B, 1.0)
    asked = pings(it)
    for again in (1, 2):
        run(it, 1.0 + LEAST * again / ASKED)
        asked = pings(it)
        assert set(asked) == {A}
    assert it.handle_pong(asked[A], 1.0 + LEAST * 2 / ASKED + 0.01, udp=True)
    run(it, 1.0 + LEAST)
    assert it.chosen.why is not Why.MOVED


def test_a_peer_that_calls_although_we_have_a_path_is_searched_when_nothing_answers() -> None:
    """Traffic takes the relay as well; nothing is trusted that may be gone."""
    it = established()
    it.handle_call_me_maybe([B], 1.0)
    assert set(pings(it)) >= {A, B}
    run(it, 1.0 + LEAST)
    assert it.best is not None
    assert it.best.addr == A
    assert not it.trusted
    assert it.chosen.why is Why.MOVED


def test_a_ping_from_elsewhere_is_a_reason_to_test_but_not_to_follow() -> None:
    """Data may have come from there before, which is told once; a search asks from everywhere."""
    it = established(B)
    it.note_heard(B, 1.0, b"x" * 12)
    asked = pings(it)
    assert set(asked) == {A, B}
    for addr in (B, A):
        assert it.handle_pong(asked[addr], 1.01, udp=True)
    assert it.best is not None
    assert it.best.addr == A


def test_what_comes_by_derp_is_a_reason_to_test_a_path_that_is_not_new() -> None:
    """The peer may have lost it; what was under way when it was found says nothing."""
    it = established()
    assert not it.note_relayed(UNDER_WAY)
    assert not pings(it)
    assert it.note_relayed(0.02 + UNDER_WAY)
    assert set(pings(it)) == {A}
    assert not it.note_relayed(0.03 + UNDER_WAY)
    run(it, 0.02 + UNDER_WAY + LEAST)
    assert not it.trusted


def test_a_peer_that_does_not_answer_data_is_tested_once() -> None:
    """Its router, or ours, forgot us."""
    it = established()
    it.note_sent(1.0)
    asked = []
    while (at := it.deadline()) is not None and at < 2.5:
        it.handle_timeout(at, at, 1.0)
        for txid in pings(it).values():
            asked.append(at)
            assert it.handle_pong(txid, at + 0.01, udp=True)
    assert asked == pytest.approx([1.0 + PATIENCE])


def test_a_link_that_became_slow_is_no_reason_to_leave_the_path() -> None:
    """The answer takes longer than the test; but data was answered meanwhile."""
    it = established()
    it.note_sent(1.0)
    it.handle_timeout(1.0 + PATIENCE, 1.5, 1.0)
    assert set(pings(it)) == {A}
    for part in range(1, ASKED + 1):
        at = 1.0 + PATIENCE + LEAST * part / ASKED + TINY
        it.handle_timeout(at, at - 0.01, at - 0.01)
    assert it.trusted
    assert it.chosen.why is not Why.MOVED


def test_a_silent_peer_that_calls_is_tested_to_the_end() -> None:
    """A word from it may have come by the relay."""
    it = established()
    it.note_sent(1.0)
    it.handle_timeout(1.0 + PATIENCE, 1.5, 1.0)
    it.handle_call_me_maybe([], 1.1 + PATIENCE)
    for part in range(1, ASKED + 1):
        at = 1.0 + PATIENCE + LEAST * part / ASKED + TINY
        it.handle_timeout(at, at - 0.01, at - 0.01)
    assert not it.trusted


def test_a_call_is_no_reason_to_test_twice() -> None:
    """Both sides call when they meet; after data from elsewhere an old address may answer once."""
    for sign, times in ((Sign.HINT, 1), (Sign.SILENCE, 1), (Sign.SOURCE, 2)):
        doubt, asked = Doubt(), 0
        due = doubt.begin(1.0, 0.01, sign)
        while due or doubt.deadline() is not None:
            asked += due
            doubt.answered(at := doubt.deadline() or 1.0)
            due = doubt.handle_timeout(doubt.deadline() or at) is Due.ASK
        assert asked == times


def test_a_peer_that_moves_twice_is_followed_twice() -> None:
    """The test that the first path failed says nothing of the second."""
    it = established(B)
    for now, new in ((1.0, B), (2.0, A)):
        it.note_heard(new, now)
        assert it.handle_pong(pings(it)[new], now + 0.2, udp=True)
        run(it, now + 1.0)
        assert it.best is not None
        assert it.best.addr == new


@given(
    st.floats(0, 2),
    st.lists(st.tuples(st.floats(0, 20), st.none() | st.sampled_from(Sign)), max_size=40),
)
def test_a_path_that_stands_its_tests_is_tested_rarely(
    latency: float, signs: list[tuple[float, Sign | None]]
) -> None:
    """Whatever the peer does; and at most twice for one sign of it."""
    doubt, now, began, seen = Doubt(), 0.0, [], 0
    for gap, sign in signs:
        now += gap
        due = doubt.handle_timeout(now) is not Due.NOTHING
        if due or (sign is not None and doubt.begin(now, latency, sign)):
            began.append(now)
            doubt.answered(now)
        seen += sign is not None
    assert all(b >= a + FLOOR for a, b in pairwise(began))
    assert len(began) <= 2 * seen


@given(st.floats(0, 2))
def test_a_test_ends_with_a_verdict(latency: float) -> None:
    """After the last question."""
    doubt = Doubt()
    assert doubt.begin(1.0, latency, Sign.HINT)
    end = 1.0 + max(LEAST, ROUND_TRIPS * latency) + TINY
    assert doubt.handle_timeout(1.0) is Due.NOTHING
    for _ in range(ASKED - 1):
        assert doubt.handle_timeout(end) is Due.ASK
    assert doubt.handle_timeout(end) is Due.VERDICT
    assert doubt.handle_timeout(end) is Due.NOTHING


def test_a_test_that_had_to_wait_is_of_its_own_time() -> None:
    """What answered during the tests before says nothing; the path may be slower now."""
    doubt = Doubt()
    assert doubt.begin(1.0, 0.01, Sign.HINT)
    doubt.answered(1.0)
    assert not doubt.begin(1.2, 1.0, Sign.HINT)
    assert doubt.began == 1.2
    assert doubt.handle_timeout(1.0 + FLOOR) is Due.ASK
    assert doubt.deadline() == 1.0 + FLOOR + ROUND_TRIPS / ASKED
