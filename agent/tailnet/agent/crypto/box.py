"""NaCl box (X25519 + XSalsa20-Poly1305, tag first) of disco and DERP."""

from nacl import bindings
from nacl.exceptions import CryptoError

from tailnet.agent.errors import BadPacket

NONCE_LEN = 24  # bytes
TAG_LEN = 16  # bytes


class Box:
    """A precomputed box between one private and one public key (32 bytes each).

    Raises:
        BadPacket: the public key is a low-order point.
    """

    __slots__ = ("_key",)

    def __init__(self, private: bytes, public: bytes) -> None:
        try:
            self._key = bindings.crypto_box_beforenm(public, private)
        except (CryptoError, ValueError, RuntimeError):
            msg = "low-order public key"
            raise BadPacket(msg) from None

    def seal(self, nonce: bytes, plaintext: bytes) -> bytes:
        """16-byte tag ‖ ciphertext; ``nonce`` is 24 random bytes."""
        return bindings.crypto_box_afternm(plaintext, nonce, self._key)

    def open_untrusted(self, nonce: bytes, data: bytes) -> bytes:
        """Plaintext of tag ‖ ciphertext.

        Raises:
            BadPacket: wrong key, damaged, or shorter than a tag.
        """
        try:
            return bindings.crypto_box_open_afternm(data, nonce, self._key)
        except (CryptoError, ValueError):
            msg = "authentication failed"
            raise BadPacket(msg) from None
