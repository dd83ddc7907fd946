"""X25519 and the public halves of keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.crypto.x25519 import lock_private, public_bytes, public_of, shared
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import (
    DiscoPrivate,
    DiscoPublic,
    LockPublic,
    MachinePrivate,
    MachinePublic,
    NodePrivate,
    NodePublic,
)

ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"

# Points of order 1, 2, 4 and 8 (RFC 7748 §7; cr.yp.to/ecdh.html).
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_both_sides_share(a: bytes, b: bytes) -> None:
    """Either private with the other public."""
    assert shared(a, public_bytes(b)) == shared(b, public_bytes(a))


def test_rfc7748_vector() -> None:
    """RFC 7748 §6.1."""
    assert public_bytes(BOB).hex() == BOB_PUBLIC
    assert public_bytes(ALICE).hex() == ALICE_PUBLIC
    assert shared(ALICE, public_bytes(BOB)).hex() == SHARED


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_points_are_refused(point: str) -> None:
    """Whoever sends one wants the secret to be known."""
    with pytest.raises(BadPacket):
        shared(ALICE, bytes.fromhex(point))


def test_public_halves_keep_their_kind() -> None:
    """A node key never becomes a disco key."""
    assert isinstance(public_of(MachinePrivate(BOB)), MachinePublic)
    assert isinstance(public_of(NodePrivate(BOB)), NodePublic)
    assert isinstance(public_of(DiscoPrivate(BOB)), DiscoPublic)
    assert public_of(NodePrivate(BOB)).raw.hex() == BOB_PUBLIC


def test_lock_key_is_seed_and_public() -> None:
    """RFC 8032 §7.1, test 1, in Go's form."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    private = lock_private(seed)
    assert private.raw == seed + bytes.fromhex(public)
    assert public_of(private) == LockPublic(bytes.fromhex(public))
