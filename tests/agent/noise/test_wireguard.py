"""IKpsk2 as WireGuard uses it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors import wireguard_handshake as v

from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.noise.wireguard import (
    FIRST_LEN,
    SECOND_LEN,
    Initiator,
    Reader,
)

PRIVATE_I, PRIVATE_R = NodePrivate(v.INITIATOR_PRIVATE), NodePrivate(v.RESPONDER_PRIVATE)
PUBLIC_I, PUBLIC_R = NodePublic(v.INITIATOR_PUBLIC), NodePublic(v.RESPONDER_PUBLIC)
FIRST = v.INITIATION[8:]


def initiator(psk: bytes = bytes(32)) -> Initiator:
    """The initiator of the vectors."""
    return Initiator(PRIVATE_I, PUBLIC_R, v.INITIATOR_EPHEMERAL, v.TIMESTAMP, psk)


@pytest.mark.parametrize("psk", v.SETS, ids=["psk", "zero-psk"])
def test_vectors(psk: bytes) -> None:
    """Both messages and both keys are those of other implementations."""
    sealed, key_ir, key_ri = v.SETS[psk]
    pending = initiator(psk)
    assert pending.first == FIRST
    responder = Reader(PRIVATE_R, psk).read_untrusted(FIRST, v.RESPONDER_EPHEMERAL)
    assert responder.remote == PUBLIC_I
    assert responder.timestamp == v.TIMESTAMP
    second, keys = responder.answer()
    assert second == v.RESPONSE_HEAD[12:] + sealed
    assert (keys.receive, keys.send) == (key_ir, key_ri)
    ours = pending.finish_untrusted(second)
    assert (ours.send, ours.receive) == (key_ir, key_ri)


def test_forged_response_leaves_the_initiator_able_to_finish() -> None:
    """Whoever sees an initiation must not be able to kill it."""
    pending = initiator()
    second, _ = Reader(PRIVATE_R).read_untrusted(FIRST, v.RESPONDER_EPHEMERAL).answer()
    for i in range(SECOND_LEN):
        forged = bytearray(second)
        forged[i] ^= 0x40
        with pytest.raises(BadPacket):
            pending.finish_untrusted(bytes(forged))
    assert pending.finish_untrusted(second).send == v.SETS[bytes(32)][1]


def test_low_order_points_are_refused() -> None:
    """An all-zero shared secret aborts, on either side."""
    with pytest.raises(BadPacket):
        initiator().finish_untrusted(bytes(SECOND_LEN))
    with pytest.raises(BadPacket):
        Reader(PRIVATE_R).read_untrusted(bytes(FIRST_LEN), v.RESPONDER_EPHEMERAL)
    with pytest.raises(BadPacket):
        Initiator(PRIVATE_I, NodePublic(bytes(32)), v.INITIATOR_EPHEMERAL, v.TIMESTAMP)


@given(st.one_of(st.binary(max_size=200), st.binary(min_size=108, max_size=108)))
def test_garbage_is_bad_packet(data: bytes) -> None:
    """Nothing else escapes."""
    with pytest.raises(BadPacket):
        Reader(PRIVATE_R).read_untrusted(data, v.RESPONDER_EPHEMERAL)
    with pytest.raises(BadPacket):
        initiator().finish_untrusted(data[:SECOND_LEN])


def test_keys_do_not_print() -> None:
    """Neither keys nor pending handshakes show their secrets."""
    _, keys = Reader(PRIVATE_R).read_untrusted(FIRST, v.RESPONDER_EPHEMERAL).answer()
    assert repr(keys) == "<TransportKeys>"
    assert repr(v.INITIATOR_EPHEMERAL) not in repr(initiator())


def test_a_reader_is_as_it_was_after_whatever_it_read() -> None:
    """One that failed, and one that was answered, change nothing for the next."""
    reader = Reader(PRIVATE_R)
    with pytest.raises(BadPacket):
        reader.read_untrusted(bytes(FIRST_LEN), v.RESPONDER_EPHEMERAL)
    second, keys = reader.read_untrusted(FIRST, v.RESPONDER_EPHEMERAL).answer()
    other, _ = reader.read_untrusted(FIRST, bytes(range(32))).answer()
    assert reader.read_untrusted(FIRST, v.RESPONDER_EPHEMERAL).answer() == (second, keys)
    assert other != second
