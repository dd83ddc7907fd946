"""ChaCha20-Poly1305 and XChaCha20-Poly1305."""

from nacl import bindings
from nacl.exceptions import CryptoError

from tailnet.agent.errors import BadPacket

TAG_LEN = 16  # bytes


class Aead:
    """ChaCha20-Poly1305 (RFC 8439) under one 32-byte key; nonces are 12 bytes.

    For messages, not for a stream of packets: see :mod:`tailnet.agent.crypto.inplace`.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, nonce: bytes, plaintext: bytes, ad: bytes | None) -> bytes:
        """Ciphertext ‖ 16-byte tag."""
        return bindings.crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, ad, nonce, self._key)

    def open_untrusted(self, nonce: bytes, data: bytes, ad: bytes | None) -> bytes:
        """Plaintext of ciphertext ‖ tag.

        Raises:
            BadPacket: the tag does not match, or ``data`` is shorter than a tag.
        """
        try:
            return bindings.crypto_aead_chacha20poly1305_ietf_decrypt(data, ad, nonce, self._key)
        except (CryptoError, ValueError):
            msg = "authentication failed"
            raise BadPacket(msg) from None


def xseal(key: bytes, nonce24: bytes, plaintext: bytes, ad: bytes) -> bytes:
    """XChaCha20-Poly1305: ciphertext ‖ tag; only WireGuard's cookies use it."""
    return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, ad, nonce24, key)


def xopen_untrusted(key: bytes, nonce24: bytes, data: bytes, ad: bytes) -> bytes:
    """Inverse of :func:`xseal`.

    Raises:
        BadPacket: the tag does not match, or ``data`` is shorter than a tag.
    """
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(data, ad, nonce24, key)
    except (CryptoError, ValueError):
        msg = "authentication failed"
        raise BadPacket(msg) from None
