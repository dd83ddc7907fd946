"""The control handshake: vectors, and what may go wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors import control_noise as v

from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import MachinePrivate, MachinePublic
from tailnet.agent.noise.control import Initiator, error_frame, respond_untrusted

SERVER = MachinePrivate(v.SERVER_STATIC)


def initiator(version: int = v.VERSION) -> Initiator:
    """The vector's client."""
    return Initiator(
        MachinePrivate(v.CLIENT_STATIC),
        MachinePublic(v.SERVER_PUBLIC),
        v.CLIENT_EPHEMERAL,
        version,
    )


def test_handshake_matches_the_vector() -> None:
    """Both sides produce exactly the bytes, keys and hash of the vector."""
    client = initiator()
    assert client.initiation == v.INITIATION
    accepted = respond_untrusted(v.INITIATION, SERVER, v.SERVER_EPHEMERAL)
    assert accepted.response == v.RESPONSE
    assert accepted.machine.raw == v.CLIENT_PUBLIC
    assert accepted.version == v.VERSION
    keys = client.read_response_untrusted(v.RESPONSE)
    assert (keys.send, keys.receive) == (v.CLIENT_TO_SERVER, v.SERVER_TO_CLIENT)
    assert (accepted.keys.receive, accepted.keys.send) == (keys.send, keys.receive)
    assert keys.hash == accepted.keys.hash == v.HANDSHAKE_HASH


def test_keys_are_not_printed() -> None:
    """A repr of the outcome holds no key."""
    accepted = respond_untrusted(v.INITIATION, SERVER, v.SERVER_EPHEMERAL)
    assert v.CLIENT_TO_SERVER.hex() not in repr(accepted)
    assert repr(accepted.keys) == "<TransportKeys>"


@given(st.integers(0, len(v.INITIATION) - 1), st.integers(1, 255))
def test_a_changed_initiation_is_refused(position: int, flip: int) -> None:
    """Every byte is authenticated, the version included."""
    data = bytearray(v.INITIATION)
    data[position] ^= flip
    with pytest.raises(BadPacket):
        respond_untrusted(bytes(data), SERVER, v.SERVER_EPHEMERAL)


@given(st.integers(0, len(v.RESPONSE) - 1), st.integers(1, 255))
def test_a_changed_response_is_refused(position: int, flip: int) -> None:
    """Every byte of the response is authenticated."""
    data = bytearray(v.RESPONSE)
    data[position] ^= flip
    with pytest.raises(BadPacket):
        initiator().read_response_untrusted(bytes(data))


@given(st.binary(max_size=120))
def test_noise_is_refused(data: bytes) -> None:
    """Only ``BadPacket`` leaves the two readers."""
    with pytest.raises(BadPacket):
        respond_untrusted(data, SERVER, v.SERVER_EPHEMERAL)
    with pytest.raises(BadPacket):
        initiator().read_response_untrusted(data)


@pytest.mark.parametrize("length", [0, 4, 100, 102])
def test_a_server_says_what_the_stock_one_says_of_another_size(length: int) -> None:
    """Clients are shown these words."""
    with pytest.raises(BadPacket, match=r"^wrong handshake initiation size$"):
        respond_untrusted(bytes(length), SERVER, v.SERVER_EPHEMERAL)
    with pytest.raises(BadPacket, match=r"^unexpected handshake message type$"):
        respond_untrusted(bytes(101), SERVER, v.SERVER_EPHEMERAL)


def test_a_second_response_is_refused() -> None:
    """A finished handshake cannot be finished again."""
    client = initiator()
    client.read_response_untrusted(v.RESPONSE)
    with pytest.raises(BadPacket):
        client.read_response_untrusted(v.RESPONSE)


def test_low_order_points_are_refused() -> None:
    """An all-zero shared secret is not used: server key, ephemeral of either side."""
    zero = bytes(32)
    with pytest.raises(BadPacket):
        Initiator(MachinePrivate(v.CLIENT_STATIC), MachinePublic(zero), v.CLIENT_EPHEMERAL, 1)
    with pytest.raises(BadPacket):
        respond_untrusted(v.INITIATION[:5] + zero + v.INITIATION[37:], SERVER, v.SERVER_EPHEMERAL)
    with pytest.raises(BadPacket):
        initiator().read_response_untrusted(v.RESPONSE[:3] + zero + v.RESPONSE[35:])


def test_wrong_server_key_is_refused() -> None:
    """An initiation for another server does not open."""
    other = MachinePrivate(bytes(range(32)))
    assert public_of(other).raw != v.SERVER_PUBLIC
    with pytest.raises(BadPacket):
        respond_untrusted(v.INITIATION, other, v.SERVER_EPHEMERAL)


def test_error_frame_layout() -> None:
    """Type, big-endian length, text."""
    assert error_frame("no") == b"\x03\x00\x02no"
