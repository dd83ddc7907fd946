"""ChaCha20-Poly1305 and XChaCha20-Poly1305."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.crypto.aead import Aead, xopen_untrusted, xseal
from tailnet.agent.errors import BadPacket

SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
KEY = bytes(range(0x80, 0xA0))
AD = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")


def test_rfc8439_vector() -> None:
    """RFC 8439 §2.8.2."""
    nonce = bytes.fromhex("070000004041424344454647")
    sealed = Aead(KEY).seal(nonce, SUNSCREEN, AD)
    assert sealed[:16].hex() == "d31a8d34648e60db7b86afbc53ef7ec2"
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"
    assert Aead(KEY).open_untrusted(nonce, sealed, AD) == SUNSCREEN


def test_xchacha_vector() -> None:
    """draft-irtf-cfrg-xchacha-03 §A.3.1."""
    nonce = bytes(range(0x40, 0x58))
    sealed = xseal(KEY, nonce, SUNSCREEN, AD)
    assert sealed[:16].hex() == "bd6d179d3e83d43b9576579493c0e939"
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"
    assert xopen_untrusted(KEY, nonce, sealed, AD) == SUNSCREEN


@given(st.binary(max_size=80))
def test_garbage_is_bad_packet(data: bytes) -> None:
    """Nothing else escapes, short input included."""
    with pytest.raises(BadPacket):
        Aead(KEY).open_untrusted(bytes(12), data, None)
    with pytest.raises(BadPacket):
        xopen_untrusted(KEY, bytes(24), data, b"")


@given(st.binary(max_size=64), st.data())
def test_any_changed_bit_is_noticed(plain: bytes, data: st.DataObject) -> None:
    """In the text as in the tag."""
    sealed = bytearray(Aead(KEY).seal(bytes(12), plain, None))
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[at // 8] ^= 1 << at % 8
    with pytest.raises(BadPacket):
        Aead(KEY).open_untrusted(bytes(12), bytes(sealed), None)
