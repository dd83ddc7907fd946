"""How often rules are put back."""

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.backend.host.repair import BURST, EVERY, RepairLimit


def test_a_few_repairs_are_done_at_once_and_the_rest_in_their_time() -> None:
    """A script that flushes once is repaired at once; a war is not."""
    limit = RepairLimit()
    assert [limit.take(100.0) for _ in range(BURST)] == [0.0] * BURST
    assert [limit.take(100.0) for _ in range(2)] == [EVERY, 2 * EVERY]


@given(st.lists(st.floats(0, 60), min_size=1, max_size=60))
def test_no_hour_sees_more_repairs_than_its_share(gaps: list[float]) -> None:
    """Whatever others do, if each repair waits as it is told."""
    limit, now, done = RepairLimit(), 0.0, []
    for gap in gaps:
        now += gap
        now += limit.take(now)
        done.append(now)
    for start in done:
        within = [at for at in done if start <= at < start + 100]
        assert len(within) <= BURST + 100 / EVERY + 1


def test_a_fight_is_told_until_the_bucket_is_half_full_again() -> None:
    """One removal is no fight, nor are ten; the eleventh waits."""
    limit = RepairLimit()
    for _ in range(BURST):
        limit.take(100.0)
    assert not limit.contested(100.0)
    limit.take(100.0)
    assert limit.contested(100.0)
    assert limit.contested(limit.peace_at - 0.1)
    assert not limit.contested(limit.peace_at)
    assert limit.peace_at == 100.0 + EVERY * (1 + BURST / 2)
