"""Which direct path is better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.magicsock.choice import Quality, better

PUBLIC = "1.2.3.4:555"
PUBLIC_2 = "2.2.2.2:555"
PUBLIC_6 = "[2001::5]:123"
PRIVATE = "10.0.0.2:123"
LINK = "169.254.0.2:123"
LOOPBACK = "127.0.0.1:123"
ULA = "[fd80::1]:123"


def q(addr: str, ms: float) -> Quality:
    """A path of so many milliseconds."""
    return Quality(AddrPort.parse(addr), ms / 1000)


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        (None, None, False),
        (q(PUBLIC, 10), None, True),
        (None, q(PUBLIC, 10), False),
        (q(PUBLIC, 1), q(PUBLIC, 10), False),  # the same path
        (q(PUBLIC, 5), q(PUBLIC_2, 10), True),
        (q(PUBLIC, 10), q(PUBLIC_2, 5), False),
        (q(PUBLIC, 0), q(PUBLIC_2, 0), False),
        (q(PUBLIC_6, 100), q(PUBLIC, 100), True),  # IPv6 at equal latency
        (q(PUBLIC, 100), q(PUBLIC_6, 100), False),
        (q(PUBLIC_6, 109), q(PUBLIC, 100), True),  # and if it is a little slower
        (q(PUBLIC, 100), q(PUBLIC_6, 130), True),  # but not much slower
        (q(PRIVATE, 100), q(PUBLIC, 91), True),
        (q(PUBLIC, 91), q(PRIVATE, 100), False),
        (q(PUBLIC, 70), q(PRIVATE, 100), True),
        (q(LINK, 100), q(PRIVATE, 100), True),
        (q(LOOPBACK, 100), q(LINK, 100), True),
        (q(ULA, 100), q(PRIVATE, 100), True),
        (q("100.64.1.2:1", 100), q(PUBLIC, 100), False),  # carrier NAT is not private
        (q(PUBLIC, 99), q(PUBLIC_2, 100), False),  # hysteresis: one percent is noise
        (q(PUBLIC, 98), q(PUBLIC_2, 100), True),
    ],
)
def test_better(a: Quality | None, b: Quality | None, want: bool) -> None:
    """Nearness, IPv6 and speed count, in points."""
    assert better(a, b) is want


addrs = st.sampled_from([PUBLIC, PUBLIC_2, PUBLIC_6, PRIVATE, LINK, LOOPBACK, ULA])
qualities = st.builds(q, addrs, st.floats(0, 1000))


@given(qualities, qualities)
def test_two_paths_never_beat_each_other(a: Quality, b: Quality) -> None:
    """Otherwise they would take turns for ever."""
    assert not (better(a, b) and better(b, a))
