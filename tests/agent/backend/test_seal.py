"""Sealed files: only with the key, only whole, only in their place."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.backend.seal import HEADER_LEN, SEGMENT, Seal, WrongKey, is_sealed
from tailnet.agent.errors import BadPacket

SEAL = Seal(b"k" * 32, os.urandom)
VECTOR = "3504810e4fb01ef54f27784d0aa3c30b6b5814e3160294aa975dfb240dd7bfd9f086de9902"
"""Check, ciphertext and tag; made with hashlib and libsodium."""
SIZES = st.sampled_from([0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 2 * SEGMENT + 5])


def sealed(data: bytes, purpose: str = "test") -> bytes:
    """In one piece."""
    return b"".join(SEAL.seal((data,), purpose))


@given(SIZES, st.integers(1, 3 * SEGMENT))
def test_opening_inverts_sealing(size: int, step: int) -> None:
    """Whatever the pieces; twice the same is never the same."""
    data = os.urandom(size)
    pieces = (data[i : i + step] for i in range(0, size, step))
    one = b"".join(SEAL.seal(pieces, "test"))
    assert is_sealed(one)
    assert SEAL.open_untrusted(one, "test") == data
    assert sealed(data) != one


def test_the_form_is_fixed() -> None:
    """A file of today is read by every later version."""
    seal = Seal(b"\x01" * 32, lambda size: b"\x02" * size)
    data = bytes.fromhex("7461696c6e65742d7365616c65642f310a" + "02" * 32 + VECTOR)
    assert b"".join(seal.seal((b"hello",), "test")) == data


@given(SIZES, st.data())
def test_any_change_is_noticed(size: int, data: st.DataObject) -> None:
    """A flipped bit anywhere, a cut, segments in another order."""
    whole = sealed(os.urandom(size))
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    for bad in (flipped, whole[:at], whole + b"\0"):
        with pytest.raises(BadPacket):
            SEAL.open_untrusted(bad, "test")


def test_segments_keep_their_places() -> None:
    """Exchanged, or left out, they do not open."""
    whole = sealed(os.urandom(3 * SEGMENT))
    step = SEGMENT + 16
    parts = [whole[HEADER_LEN + i * step : HEADER_LEN + (i + 1) * step] for i in range(3)]
    for order in ((1, 0, 2), (0, 2), (0, 1), (0, 0, 1, 2)):
        with pytest.raises(BadPacket):
            SEAL.open_untrusted(whole[:HEADER_LEN] + b"".join(parts[i] for i in order), "test")


def test_a_wrong_key_is_told_from_damage() -> None:
    """And so is a file of another purpose."""
    whole = sealed(b"data")
    for seal, purpose in ((Seal(b"x" * 32, os.urandom), "test"), (SEAL, "other")):
        with pytest.raises(WrongKey):
            seal.open_untrusted(whole, purpose)
    with pytest.raises(BadPacket, match="form that this version cannot read"):
        SEAL.open_untrusted(whole.replace(b"/1\n", b"/2\n", 1), "test")


@given(st.binary())
def test_only_bad_packet_escapes(noise: bytes) -> None:
    """Noise, alone and after a good beginning."""
    for data in (noise, sealed(b"")[:HEADER_LEN] + noise):
        with pytest.raises(BadPacket):
            SEAL.open_untrusted(data, "test")


def test_the_secret_does_not_print() -> None:
    """Not even by accident."""
    assert "k" * 8 not in repr(SEAL)
