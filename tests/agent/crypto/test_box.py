"""NaCl box."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.crypto.box import NONCE_LEN, TAG_LEN, Box
from tailnet.agent.crypto.x25519 import public_bytes
from tailnet.agent.errors import BadPacket

# NaCl's tests/box.c; "Cryptography in NaCl" §2, §9, §10.
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")

PLAIN = bytes.fromhex(
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c"
    "61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f"
    "21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
)
SEALED = bytes.fromhex(
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1"
    "186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab9321645"
    "48e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b"
    "1f654cb45a74e355a5"
)


def test_vector() -> None:
    """NaCl's own."""
    assert Box(ALICE, public_bytes(BOB)).seal(NONCE, PLAIN) == SEALED
    assert Box(BOB, public_bytes(ALICE)).open_untrusted(NONCE, SEALED) == PLAIN


def test_both_ends_open_each_other() -> None:
    """The tag is in front."""
    there, back = Box(ALICE, public_bytes(BOB)), Box(BOB, public_bytes(ALICE))
    sealed = there.seal(NONCE, b"hello")
    assert len(sealed) == TAG_LEN + 5
    assert back.open_untrusted(NONCE, sealed) == b"hello"
    assert back.seal(NONCE, b"hello") == sealed


@given(st.binary(max_size=100))
def test_garbage_is_bad_packet(data: bytes) -> None:
    """Nothing else escapes, short input included."""
    with pytest.raises(BadPacket):
        Box(ALICE, public_bytes(BOB)).open_untrusted(bytes(NONCE_LEN), data)


def test_low_order_key_is_refused() -> None:
    """No box with everyone's secret."""
    with pytest.raises(BadPacket):
        Box(ALICE, bytes(32))
