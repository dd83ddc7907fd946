"""Handshake messages as values."""

from dataclasses import replace

import pytest
from tests.vectors import wireguard_handshake as v

from tailnet.agent.crypto.aead import Aead
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.noise.wireguard.reference import ReferenceHandshakes
from tailnet.agent.wireguard.cookie import CookieGenerator
from tailnet.agent.wireguard.handshake import (
    answer,
    finish_untrusted,
    initiate,
    open_initiation_untrusted,
)

PRIVATE_I, PRIVATE_R = NodePrivate(v.INITIATOR_PRIVATE), NodePrivate(v.RESPONDER_PRIVATE)
PUBLIC_I, PUBLIC_R = NodePublic(v.INITIATOR_PUBLIC), NodePublic(v.RESPONDER_PUBLIC)


def test_whole_exchange_of_the_vectors() -> None:
    """Both messages, mac1 of the first, and the keys of both sessions, with the zero key."""
    sealed, key_ir, key_ri = v.SETS[bytes(32)]
    pending, head = initiate(
        ReferenceHandshakes(PRIVATE_I),
        PUBLIC_R,
        v.INITIATOR_INDEX,
        v.TIMESTAMP,
        lambda _: v.INITIATOR_EPHEMERAL,
    )
    assert head == v.INITIATION
    message = CookieGenerator(PUBLIC_R).add_macs(head, 0.0)
    assert message == v.INITIATION + v.INITIATION_MAC1 + bytes(16)

    asked = open_initiation_untrusted(
        ReferenceHandshakes(PRIVATE_R), message, lambda _: v.RESPONDER_EPHEMERAL
    )
    assert (asked.remote, asked.timestamp) == (PUBLIC_I, v.TIMESTAMP)
    theirs, head = answer(asked, v.RESPONDER_INDEX, 5.0)
    assert head == v.RESPONSE_HEAD + sealed
    ours = finish_untrusted(pending, CookieGenerator(PUBLIC_I).add_macs(head, 0.0), 6.0)
    assert ours == (v.INITIATOR_INDEX, v.RESPONDER_INDEX, key_ir, key_ri, 6.0, True)
    assert theirs == (v.RESPONDER_INDEX, v.INITIATOR_INDEX, key_ri, key_ir, 5.0, False)
    assert key_ir.hex() not in repr(ours)


def test_mac1_of_the_response_vector() -> None:
    """mac1 is keyed with the recipient's key, for responses too."""
    head = v.RESPONSE_HEAD + v.SETS[v.PSK][0]
    message = CookieGenerator(PUBLIC_I).add_macs(head, 0.0)
    assert message[60:76] == v.RESPONSE_MAC1


def test_response_to_another_index_is_refused() -> None:
    """An index that was ours once does not answer what is pending now."""
    pending, head = initiate(
        ReferenceHandshakes(PRIVATE_I),
        PUBLIC_R,
        v.INITIATOR_INDEX,
        v.TIMESTAMP,
        lambda _: v.INITIATOR_EPHEMERAL,
    )
    asked = open_initiation_untrusted(
        ReferenceHandshakes(PRIVATE_R), head + bytes(32), lambda _: v.RESPONDER_EPHEMERAL
    )
    _, head = answer(asked, 7, 0.0)
    with pytest.raises(BadPacket):
        finish_untrusted(replace(pending, index=8), head + bytes(32), 0.0)


@pytest.mark.parametrize(("counter", "plain", "sealed"), v.TRANSPORT)
def test_transport_vectors(counter: int, plain: str, sealed: str) -> None:
    """Transport nonces count in little-endian, after four zero bytes."""
    aead = Aead(v.TRANSPORT_KEY)
    nonce = bytes(4) + counter.to_bytes(8, "little")
    assert aead.seal(nonce, bytes.fromhex(plain), None).hex() == sealed
    assert aead.open_untrusted(nonce, bytes.fromhex(sealed), None).hex() == plain
