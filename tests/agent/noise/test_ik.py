"""The pattern IK against another implementation, ``noiseprotocol``."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from tailnet.agent.crypto.x25519 import public_bytes
from tailnet.agent.errors import BadPacket
from tailnet.agent.noise import ik

KEYS = st.binary(min_size=32, max_size=32)
PSKS = st.one_of(st.none(), KEYS)
TEXTS = st.binary(max_size=100)


def named(psk: bytes | None) -> bytes:
    """The protocol with or without a pre-shared key."""
    pattern = b"IK" if psk is None else b"IKpsk2"
    return b"Noise_" + pattern + b"_25519_ChaChaPoly_BLAKE2s"


def theirs(psk: bytes | None, prologue: bytes, private: bytes, remote: bytes | None) -> Any:  # noqa: ANN401 - untyped
    """Their side, started: an initiator if it knows whom it talks to."""
    noise = NoiseConnection.from_name(named(psk))
    if remote is None:
        noise.set_as_responder()
    else:
        noise.set_as_initiator()
        noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote)
    noise.set_keypair_from_private_bytes(Keypair.STATIC, private)
    noise.set_prologue(prologue)
    if psk is not None:
        noise.set_psks(psk)
    noise.start_handshake()
    return noise


@given(PSKS, TEXTS, KEYS, KEYS, KEYS, TEXTS, TEXTS)
def test_our_initiator_agrees_with_their_responder(
    psk: bytes | None,
    prologue: bytes,
    private: bytes,
    ephemeral: bytes,
    responder: bytes,
    there: bytes,
    back: bytes,
) -> None:
    """Payloads arrive, hash and keys are equal."""
    remote = public_bytes(responder)
    other = theirs(psk, prologue, responder, None)
    state = ik.start(named(psk), prologue, remote, psk)
    state, first = ik.write_first(state, private, ephemeral, remote, there)
    assert other.read_message(first) == there
    state, got = ik.read_second_untrusted(
        state, private, ephemeral, bytes(other.write_message(back))
    )
    assert got == back
    assert state.hash == other.get_handshake_hash()
    there_key, back_key = state.split()
    assert there_key == other.noise_protocol.cipher_state_decrypt.k
    assert back_key == other.noise_protocol.cipher_state_encrypt.k


@given(PSKS, TEXTS, KEYS, KEYS, KEYS, TEXTS, TEXTS)
def test_our_responder_agrees_with_their_initiator(
    psk: bytes | None,
    prologue: bytes,
    private: bytes,
    initiator: bytes,
    ephemeral: bytes,
    there: bytes,
    back: bytes,
) -> None:
    """It also learns who the initiator is."""
    remote = public_bytes(private)
    other = theirs(psk, prologue, initiator, remote)
    state = ik.start(named(psk), prologue, remote, psk)
    state, first = ik.read_first_untrusted(state, private, bytes(other.write_message(there)))
    assert (first.static, first.payload) == (public_bytes(initiator), there)
    state, second = ik.write_second(state, ephemeral, first, back)
    assert other.read_message(second) == back
    assert state.hash == other.get_handshake_hash()
    there_key, back_key = state.split()
    assert there_key == other.noise_protocol.cipher_state_encrypt.k
    assert back_key == other.noise_protocol.cipher_state_decrypt.k


def test_who_disagrees_about_anything_ends_without_keys() -> None:
    """Prologue, responder, pre-shared key."""
    a, b, e = bytes([1] * 32), bytes([2] * 32), bytes([3] * 32)
    remote = public_bytes(b)
    good = ik.start(named(e), b"p", remote, e)
    opened, first = ik.write_first(good, a, e, remote, b"")
    for wrong in (
        ik.start(named(e), b"q", remote, e),
        ik.start(named(e), b"p", public_bytes(a), e),
        ik.start(named(None), b"p", remote),
    ):
        with pytest.raises(BadPacket):
            ik.read_first_untrusted(wrong, b, first)
    state, read = ik.read_first_untrusted(ik.start(named(e), b"p", remote, bytes(32)), b, first)
    _, second = ik.write_second(state, b, read, b"")  # it comes in with the second message
    with pytest.raises(BadPacket):
        ik.read_second_untrusted(opened, a, e, second)


@given(st.binary(max_size=120))
def test_garbage_is_bad_packet(data: bytes) -> None:
    """Of any length."""
    a, b = bytes([1] * 32), bytes([2] * 32)
    state = ik.start(named(None), b"", public_bytes(b))
    with pytest.raises(BadPacket):
        ik.read_first_untrusted(state, b, data)
    with pytest.raises(BadPacket):
        ik.read_second_untrusted(state, a, a, data)


def test_states_do_not_print() -> None:
    """Nor what was read."""
    a, b = bytes([1] * 32), bytes([2] * 32)
    state = ik.start(named(None), b"", public_bytes(b))
    sent, first = ik.write_first(state, a, a, public_bytes(b), b"")
    _, read = ik.read_first_untrusted(state, b, first)
    for shown in (repr(sent), repr(read)):
        assert "bytes" not in shown
        assert "b'" not in shown
