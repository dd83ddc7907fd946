"""ChaCha20-Poly1305 into buffers, for the datapath that is written in Python.

OpenSSL is quicker than libsodium and writes where it is told to, but costs 8 MB of memory: a daemon
with the native datapath does without.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

BadTag = InvalidTag
"""What :attr:`InPlace.open_into` raises."""


class InPlace:
    """One 32-byte key; nonces are 12 bytes.

    Attributes are the library's own methods, without a copy or a call of ours around them::

        seal_into(nonce, plaintext, ad, buffer of exactly len(plaintext) + 16 bytes)
        open_into(nonce, ciphertext ‖ tag, ad, buffer of exactly the plaintext's length)
    """

    __slots__ = ("open_into", "seal_into")

    def __init__(self, key: bytes) -> None:
        cipher = ChaCha20Poly1305(key)
        self.seal_into = cipher.encrypt_into
        self.open_into = cipher.decrypt_into
