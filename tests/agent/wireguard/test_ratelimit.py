"""Token buckets."""

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.keys import NodePrivate, RelayAddr
from tailnet.agent.wireguard import ratelimit
from tailnet.agent.wireguard.ratelimit import BURST, PER_SECOND, RateLimiter

A, B = AddrPort.parse("192.0.2.1:1"), AddrPort.parse("192.0.2.2:1")
OTHER_PORT = AddrPort.parse("192.0.2.1:2")


def test_burst_then_twenty_a_second() -> None:
    """The sequence of wireguard-go ratelimiter_test.go."""
    limiter = RateLimiter()
    assert [limiter.allow(A, 0.0) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert limiter.allow(A, 1 / PER_SECOND)
    assert not limiter.allow(A, 1 / PER_SECOND)
    assert [limiter.allow(A, 0.15) for _ in range(3)] == [True, True, False]


def test_sources_are_addresses_without_port() -> None:
    """Another port, or session at a relay, is the same source; another address or key is not."""
    limiter = RateLimiter()
    for _ in range(BURST):
        limiter.allow(A, 0.0)
    assert not limiter.allow(OTHER_PORT, 0.0)
    assert not limiter.allow(ViaAddr(A, 7), 0.0)
    assert limiter.allow(B, 0.0)
    assert limiter.allow(RelayAddr(1, public_of(NodePrivate(b"\x02" * 32))), 0.0)


def test_idle_sources_are_forgotten_and_their_number_is_bounded() -> None:
    """A flood of addresses costs bounded memory, for a second."""
    limiter = RateLimiter()
    for n in range(ratelimit.MAX_SOURCES + 10):
        limiter.allow(AddrPort.of(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 1), 0.5)
    assert len(limiter) == ratelimit.MAX_SOURCES
    assert not limiter.allow(A, 0.9)
    assert limiter.allow(A, 1.6)
    assert len(limiter) == 1


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=200))
def test_never_more_than_burst_and_rate(gaps: list[float]) -> None:
    """Over any time, at most 5 plus 20 per second pass."""
    limiter, now, passed = RateLimiter(), 0.0, 0
    for gap in gaps:
        now += gap
        passed += limiter.allow(A, now)
    assert passed <= BURST + now * PER_SECOND + 0.01
