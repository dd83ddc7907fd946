"""How often a file is repaired."""

from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.linux.dns.fight import MOST, QUIET, Fight


@given(st.lists(st.floats(0, 4.9), min_size=1, max_size=60))
def test_never_more_than_the_most_in_a_row(gaps: list[float]) -> None:
    """Then it is lost, until it is quiet; then it begins anew."""
    fight, now, repairs = Fight(), 0.0, 0
    for gap in gaps:
        now += gap
        fight, repair = fight.trampled(now)
        repairs += repair
    assert repairs == min(len(gaps), MOST)
    assert fight.lost == (len(gaps) > MOST)
    assert fight.deadline == now + QUIET
    fight, repair = fight.trampled(now + QUIET)
    assert repair
    assert not fight.lost


def test_peace_takes_its_time() -> None:
    """Our own repair is no sign of it."""
    fight = Fight()
    assert fight.deadline is None
    for _ in range(MOST + 1):
        fight, _ = fight.trampled(100.0)
    assert fight.at_peace(101.0).lost
    assert fight.at_peace(100.0 + QUIET) == Fight()
