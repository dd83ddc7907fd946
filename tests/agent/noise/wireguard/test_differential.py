"""What one implementation says, the other says: every byte, every key, every refusal."""

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.handshakes import MAKERS, maker

from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.noise.wireguard.interface import Handshakes

KEYS = st.binary(min_size=32, max_size=32)
UNAUTHENTIC = r"^handshake does not authenticate$"
STAMPS = st.binary(min_size=12, max_size=12)


@pytest.fixture(scope="module", autouse=True)
def _both() -> None:
    for name in MAKERS:
        maker(name)


def made(private: bytes, psk: bytes) -> list[Handshakes]:
    """One of each kind."""
    return [make(NodePrivate(private), psk) for make in MAKERS.values()]


@given(KEYS, KEYS, KEYS, KEYS, KEYS, STAMPS)
def test_whole_handshakes_are_equal(
    ours: bytes, theirs: bytes, one: bytes, two: bytes, psk: bytes, stamp: bytes
) -> None:
    """The keys are any bytes: whoever clamps them, clamps them the same way."""
    remote = public_of(NodePrivate(theirs))
    begun = [each.begin(remote, one, stamp) for each in made(ours, psk)]
    first = begun[0].first
    assert [each.first for each in begun] == [first] * 2
    asked = [each.read_untrusted(first, two) for each in made(theirs, psk)]
    assert {each.remote for each in asked} == {public_of(NodePrivate(ours))}
    assert {each.timestamp for each in asked} == {stamp}
    answers = [each.answer() for each in asked]
    assert answers[0] == answers[1]
    second, keys = answers[0]
    for each in begun:
        assert astuple(each.finish_untrusted(second)) == (keys.receive, keys.send)


@given(KEYS, st.integers(0, 8 * 108 - 1), st.integers(0, 8 * 48 - 1))
def test_one_changed_bit_is_refused_in_the_same_words(key: bytes, there: int, back: int) -> None:
    """In either message, and the unchanged one still opens."""
    ours, theirs = made(key, bytes(32)), made(b"r" * 32, bytes(32))
    remote = public_of(NodePrivate(b"r" * 32))
    for a, b in zip(ours, reversed(theirs), strict=True):
        begun = a.begin(remote, b"e" * 32, bytes(12))
        with pytest.raises(BadPacket, match=UNAUTHENTIC):
            b.read_untrusted(flip(begun.first, there), key)
        second, _ = b.read_untrusted(begun.first, b"f" * 32).answer()
        with pytest.raises(BadPacket, match=UNAUTHENTIC):
            begun.finish_untrusted(flip(second, back))
        begun.finish_untrusted(second)


@given(KEYS)
def test_any_public_key_is_taken_or_refused_by_both(point: bytes) -> None:
    """Points of the twist and numbers above the field's are no points of low order."""
    begun = []
    for each in made(b"i" * 32, bytes(32)):
        try:
            begun.append(each.begin(NodePublic(point), b"e" * 32, bytes(12)).first)
        except BadPacket as error:
            begun.append(str(error).encode())
    assert begun[0] == begun[1]


def flip(data: bytes, bit: int) -> bytes:
    """``data`` with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
