"""The disco envelope."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.disco import envelope
from tailnet.agent.disco.envelope import Sealer, looks_like_disco, sender_untrusted
from tailnet.agent.disco.messages import Ping, encode
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import DiscoPrivate, DiscoPublic, NodePublic

SENDER = DiscoPrivate(bytes(range(1, 33)))
RECIPIENT = DiscoPrivate(bytes(range(0x20, 0x40)))
NONCE = bytes.fromhex("fedcba9876543210") * 3
# NaCl's known answer for these keys, wrapped by hand as disco.go does.
DATAGRAM = bytes.fromhex(
    "5453f09f92ac07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c"
    "fedcba9876543210fedcba9876543210fedcba9876543210"
    "c3fd88f61be3a3aa81d7e9cd6add0920be9a157b95"
)


def test_sealed_bytes_match_the_known_answer() -> None:
    """Magic, sender, nonce, tag, ciphertext."""
    sealed = Sealer(SENDER).seal(public_of(RECIPIENT), NONCE, b"xyzzy")
    assert sealed == DATAGRAM
    assert Sealer(RECIPIENT).open_untrusted(DATAGRAM) == b"xyzzy"
    assert sender_untrusted(DATAGRAM) == public_of(SENDER)


def test_ping_with_node_key_is_the_known_124_bytes() -> None:
    """The datagram that every other node sends most."""
    key = NodePublic.parse(
        "nodekey:a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209"
    )
    sealed = Sealer(SENDER).seal(
        public_of(RECIPIENT), NONCE, encode(Ping(bytes(range(1, 13)), key))
    )
    assert len(sealed) == 124
    assert sealed[62:].hex() == (
        "13d36ee4e2a2e4cf0cf0bb0737b5947bc7e36e03ef9f32e61a992e74efbd4c3c"
        "0c0a50b687d8b059baebe5c62bf1803ec4f4ebcc8dd7273c3a1ecf58803d"
    )


def test_others_cannot_open() -> None:
    """Neither a third node, nor the recipient after damage."""
    with pytest.raises(BadPacket):
        Sealer(SENDER).open_untrusted(DATAGRAM)
    for i in range(6, len(DATAGRAM)):
        damaged = DATAGRAM[:i] + bytes((DATAGRAM[i] ^ 1,)) + DATAGRAM[i + 1 :]
        with pytest.raises(BadPacket):
            Sealer(RECIPIENT).open_untrusted(damaged)


def test_looks_like_disco_needs_magic_and_62_bytes() -> None:
    """The demultiplexer's test."""
    assert looks_like_disco(DATAGRAM[:62])
    assert not looks_like_disco(DATAGRAM[:61])
    assert not looks_like_disco(b"\x04" + DATAGRAM[1:])


def test_low_order_sender_is_a_bad_packet() -> None:
    """A zero key has no shared secret."""
    with pytest.raises(BadPacket):
        Sealer(RECIPIENT).open_untrusted(DATAGRAM[:6] + bytes(32) + DATAGRAM[38:])


def test_shared_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used goes first."""
    monkeypatch.setattr(envelope, "SHARED_KEYS_MAX", 2)
    sealer = Sealer(SENDER)
    keys = [public_of(DiscoPrivate(bytes([n]) * 32)) for n in (1, 2, 3)]
    for key in (keys[0], keys[1], keys[0], keys[2]):
        sealer.seal(key, NONCE, b"")
    assert list(sealer._boxes) == [keys[0], keys[2]]
    sealer.forget(keys[0])
    assert list(sealer._boxes) == [keys[2]]


@given(st.binary(max_size=120), st.booleans())
def test_garbage_is_a_bad_packet(data: bytes, magic: bool) -> None:
    """Only BadPacket leaves the envelope."""
    if magic:
        data = envelope.MAGIC + data
    with pytest.raises(BadPacket):
        Sealer(RECIPIENT).open_untrusted(data)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_open_inverts_seal(seed: bytes, plaintext: bytes) -> None:
    """For any sender key."""
    private = DiscoPrivate.from_random(seed)
    data = Sealer(private).seal(DiscoPublic(public_of(RECIPIENT).raw), NONCE, plaintext)
    assert Sealer(RECIPIENT).open_untrusted(data) == plaintext
