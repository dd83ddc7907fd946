"""Time stamps."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.wireguard.tai64n import STAMP_LEN, stamp, stamp_after

WALL = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TIMES = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 -- hypothesis adds the zone
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def test_epoch() -> None:
    """1970 is 2^62 + 10 TAI seconds."""
    assert stamp(datetime(1970, 1, 1, tzinfo=UTC)).hex() == "400000000000000a00000000"


def test_fine_clock_is_hidden() -> None:
    """Times in one slot of 16.8 ms give the same stamp, the next slot another."""
    assert stamp(WALL) == stamp(WALL + timedelta(milliseconds=16))
    assert stamp(WALL) < stamp(WALL + timedelta(milliseconds=17))


@given(TIMES, TIMES)
def test_order_of_bytes_is_order_of_time(a: datetime, b: datetime) -> None:
    """Later is never less."""
    assert len(stamp(a)) == STAMP_LEN
    assert (stamp(a) <= stamp(b)) or a > b


@given(TIMES, TIMES)
def test_clock_that_goes_back_does_not_stop_handshakes(a: datetime, b: datetime) -> None:
    """Stamps of one process always grow, and keep their form."""
    last = stamp(a)
    for _ in range(70):
        new = stamp_after(b, last)
        assert new > last
        assert new[-3:] == bytes(3)
        assert int.from_bytes(new[8:], "big") < 1_000_000_000
        last = new
