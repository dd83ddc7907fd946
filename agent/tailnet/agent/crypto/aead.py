"""ChaCha20-Poly1305 and XChaCha20-Poly1305."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl import bindings
from nacl.exceptions import CryptoError

from tailnet.agent.errors import BadPacket

TAG_LEN = 16  # bytes

BadTag = InvalidTag
"""What :attr:`Aead.open_into` raises, and the cipher inside ``noiseprotocol``."""


class Aead:
    """ChaCha20-Poly1305 (RFC 8439) under one 32-byte key; nonces are 12 bytes."""

    __slots__ = ("_cipher", "open_into", "seal", "seal_into")

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        # seal(nonce, plaintext, associated_data or None) -> ciphertext ‖ 16-byte tag
        self.seal = self._cipher.encrypt
        # For the packet path, without a copy or a call of ours around it:
        # seal_into(nonce, plaintext, ad, buffer of exactly len(plaintext) + 16 bytes)
        # open_into(nonce, ciphertext ‖ tag, ad, buffer of exactly the plaintext's length), which
        # lets out BadTag.
        self.seal_into = self._cipher.encrypt_into
        self.open_into = self._cipher.decrypt_into

    def open_untrusted(self, nonce: bytes, data: bytes, ad: bytes | None) -> bytes:
        """Plaintext of ciphertext ‖ tag.

        Raises:
            BadPacket: the tag does not match, or ``data`` is shorter than a tag.
        """
        try:
            return self._cipher.decrypt(nonce, data, ad)
        except InvalidTag:
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
