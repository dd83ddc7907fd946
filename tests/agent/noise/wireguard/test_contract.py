"""IKpsk2 as WireGuard uses it, of every implementation and between any two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.handshakes import Make
from tests.vectors import wireguard_handshake as v

from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.noise.wireguard.interface import (
    FIRST_LEN,
    NO_PSK,
    SECOND_LEN,
    Initiator,
)

PRIVATE_I, PRIVATE_R = NodePrivate(v.INITIATOR_PRIVATE), NodePrivate(v.RESPONDER_PRIVATE)
PUBLIC_I, PUBLIC_R = NodePublic(v.INITIATOR_PUBLIC), NodePublic(v.RESPONDER_PUBLIC)
FIRST = v.INITIATION[8:]
UNAUTHENTIC = "^handshake does not authenticate$"

# In little-endian order: 0, 1, p - 1, p, p + 1, and the two of order 8 (RFC 7748 §6.1).
LOW_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    *(bytes([low]) + b"\xff" * 30 + b"\x7f" for low in (0xEC, 0xED, 0xEE)),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


def initiator(make: Make, psk: bytes = NO_PSK) -> Initiator:
    """The initiator of the vectors."""
    return make(PRIVATE_I, psk).begin(PUBLIC_R, v.INITIATOR_EPHEMERAL, v.TIMESTAMP)


@pytest.mark.parametrize("psk", v.SETS, ids=["psk", "zero-psk"])
def test_vectors(make: Make, make_other: Make, psk: bytes) -> None:
    """Both messages and both keys are those of other implementations."""
    sealed, key_ir, key_ri = v.SETS[psk]
    pending = initiator(make, psk)
    assert pending.first == FIRST
    responder = make_other(PRIVATE_R, psk).read_untrusted(FIRST, v.RESPONDER_EPHEMERAL)
    assert responder.remote == PUBLIC_I
    assert responder.timestamp == v.TIMESTAMP
    second, keys = responder.answer()
    assert second == v.RESPONSE_HEAD[12:] + sealed
    assert (keys.receive, keys.send) == (key_ir, key_ri)
    ours = pending.finish_untrusted(second)
    assert (ours.send, ours.receive) == (key_ir, key_ri)


def test_forged_response_leaves_the_initiator_able_to_finish(make: Make) -> None:
    """Whoever sees an initiation must not be able to kill it."""
    pending = initiator(make)
    second, _ = make(PRIVATE_R).read_untrusted(FIRST, v.RESPONDER_EPHEMERAL).answer()
    for i in range(SECOND_LEN):
        forged = bytearray(second)
        forged[i] ^= 0x40
        with pytest.raises(BadPacket, match=UNAUTHENTIC):
            pending.finish_untrusted(bytes(forged))
    assert pending.finish_untrusted(second).send == v.SETS[bytes(32)][1]


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:4])
def test_low_order_points_are_refused(make: Make, point: bytes) -> None:
    """An all-zero shared secret aborts, on either side."""
    with pytest.raises(BadPacket, match=UNAUTHENTIC):
        initiator(make).finish_untrusted(point + bytes(16))
    with pytest.raises(BadPacket, match=UNAUTHENTIC):
        make(PRIVATE_R).read_untrusted(point + FIRST[32:], v.RESPONDER_EPHEMERAL)
    with pytest.raises(BadPacket, match=r"^low-order public key$"):
        make(PRIVATE_I).begin(NodePublic(point), v.INITIATOR_EPHEMERAL, v.TIMESTAMP)


@given(data=st.one_of(st.binary(max_size=200), st.binary(min_size=108, max_size=108)))
def test_garbage_is_bad_packet(make: Make, data: bytes) -> None:
    """Nothing else escapes, and the reason is the same whoever computes."""
    first = UNAUTHENTIC if len(data) == FIRST_LEN else "^not a handshake initiation$"
    with pytest.raises(BadPacket, match=first):
        make(PRIVATE_R).read_untrusted(data, v.RESPONDER_EPHEMERAL)
    data = data[:SECOND_LEN]
    second = UNAUTHENTIC if len(data) == SECOND_LEN else "^not a handshake response$"
    with pytest.raises(BadPacket, match=second):
        initiator(make).finish_untrusted(data)


@pytest.mark.parametrize("length", [0, 1, 47, 49, 107, 109, 148, 300])
def test_messages_of_other_lengths_are_refused_before_anything_is_computed(
    make: Make, length: int
) -> None:
    """Also those that begin as the right one does."""
    first = (FIRST + bytes(300))[:length]
    with pytest.raises(BadPacket, match=r"^not a handshake initiation$"):
        make(PRIVATE_R).read_untrusted(first, v.RESPONDER_EPHEMERAL)
    second, _ = make(PRIVATE_R).read_untrusted(FIRST, v.RESPONDER_EPHEMERAL).answer()
    with pytest.raises(BadPacket, match=r"^not a handshake response$"):
        initiator(make).finish_untrusted((second + bytes(300))[:length])


def test_another_preshared_key_gets_no_session(make: Make, make_other: Make) -> None:
    """It comes in with the answer."""
    responder = make_other(PRIVATE_R, v.PSK).read_untrusted(FIRST, v.RESPONDER_EPHEMERAL)
    with pytest.raises(BadPacket, match=UNAUTHENTIC):
        initiator(make).finish_untrusted(responder.answer()[0])


def test_a_message_for_another_key_is_refused(make: Make) -> None:
    """Even if that is our peer's."""
    with pytest.raises(BadPacket, match=UNAUTHENTIC):
        make(PRIVATE_I).read_untrusted(FIRST, v.RESPONDER_EPHEMERAL)


def test_keys_do_not_print(make: Make) -> None:
    """Neither keys nor pending handshakes show their secrets."""
    handshakes = make(PRIVATE_R)
    responder = handshakes.read_untrusted(FIRST, v.RESPONDER_EPHEMERAL)
    _, keys = responder.answer()
    assert repr(keys) == "<TransportKeys>"
    for thing in (handshakes, responder, initiator(make)):
        assert "b'" not in repr(thing)


def test_a_static_key_is_as_it_was_after_whatever_was_read(make: Make) -> None:
    """One that failed, and one that was answered, change nothing for the next."""
    handshakes = make(PRIVATE_R)
    with pytest.raises(BadPacket):
        handshakes.read_untrusted(bytes(FIRST_LEN), v.RESPONDER_EPHEMERAL)
    second, keys = handshakes.read_untrusted(FIRST, v.RESPONDER_EPHEMERAL).answer()
    other, _ = handshakes.read_untrusted(FIRST, bytes(range(32))).answer()
    assert handshakes.read_untrusted(FIRST, v.RESPONDER_EPHEMERAL).answer() == (second, keys)
    assert other != second


@pytest.mark.parametrize("length", [0, 31, 33])
def test_an_ephemeral_key_of_another_size_is_refused(make: Make, length: int) -> None:
    """It is not made longer or shorter in silence."""
    with pytest.raises(BadPacket):
        make(PRIVATE_I).begin(PUBLIC_R, bytes(length), v.TIMESTAMP)
    with pytest.raises(BadPacket):
        make(PRIVATE_R).read_untrusted(FIRST, bytes(length))
