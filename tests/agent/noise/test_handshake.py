"""Handshakes over our primitives against the library's own, OpenSSL's."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from tailnet.agent.crypto.x25519 import public_bytes
from tailnet.agent.errors import BadPacket
from tailnet.agent.noise.handshake import Handshake

KEYS = st.binary(min_size=32, max_size=32)
PSKS = st.one_of(st.none(), KEYS)
TEXTS = st.binary(max_size=100)
A, B, E = bytes([1] * 32), bytes([2] * 32), bytes([3] * 32)


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


def agreed(ours: Handshake, other: Any) -> bool:  # noqa: ANN401 - untyped
    """Hash and keys are equal."""
    end = other.noise_protocol
    return (*ours.keys(), ours.hash) == (
        end.cipher_state_decrypt.k,
        end.cipher_state_encrypt.k,
        other.get_handshake_hash(),
    )


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
    ours = Handshake.begin(
        named(psk), prologue, private=private, ephemeral=ephemeral, remote=remote, psk=psk
    )
    assert other.read_message(ours.write(there)) == there
    assert ours.read_untrusted(bytes(other.write_message(back))) == back
    assert agreed(ours, other)


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
    other = theirs(psk, prologue, initiator, public_bytes(private))
    ours = Handshake.begin(
        named(psk), prologue, private=private, ephemeral=ephemeral, remote=None, psk=psk
    )
    assert ours.read_untrusted(bytes(other.write_message(there))) == there
    assert ours.remote == public_bytes(initiator)
    assert other.read_message(ours.write(back)) == back
    assert agreed(ours, other)


def begun(prologue: bytes, psk: bytes | None) -> Handshake:
    """An initiator that wants to talk to B."""
    return Handshake.begin(
        named(psk), prologue, private=A, ephemeral=E, remote=public_bytes(B), psk=psk
    )


def awaited(private: bytes, prologue: bytes, psk: bytes | None) -> Handshake:
    """A responder."""
    return Handshake.begin(named(psk), prologue, private=private, ephemeral=E, remote=None, psk=psk)


@pytest.mark.parametrize(
    "other", [awaited(B, b"q", E), awaited(A, b"p", E), awaited(B, b"p", None)]
)
def test_who_disagrees_about_anything_opens_nothing(other: Handshake) -> None:
    """Prologue, responder, protocol."""
    with pytest.raises(BadPacket):
        other.read_untrusted(begun(b"p", E).write(b""))


def test_another_preshared_key_ends_without_keys() -> None:
    """It comes in with the second message."""
    one, other = begun(b"p", E), awaited(B, b"p", A)
    other.read_untrusted(one.write(b""))
    with pytest.raises(BadPacket):
        one.read_untrusted(other.write(b""))


@given(st.binary(max_size=120))
def test_garbage_is_bad_packet(data: bytes) -> None:
    """Of any length, as the first message or the second."""
    with pytest.raises(BadPacket):
        awaited(B, b"", None).read_untrusted(data)
    one = begun(b"", None)
    one.write(b"")
    with pytest.raises(BadPacket):
        one.read_untrusted(data)


def test_a_handshake_does_not_print() -> None:
    """There are keys in it."""
    assert "b'" not in repr(begun(b"", None))
