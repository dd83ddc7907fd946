"""One side of a Noise handshake: ``noiseprotocol`` with the primitives of our own crypto room.

The library's own backend is ``cryptography``, which brings an OpenSSL besides the one of Python:
8 MB of memory that a daemon with the native datapath does without.

Source: the Noise Protocol Framework, revision 34, §4 (DH, cipher and hash functions) and §5.
"""

from typing import Any, Self

from noise.backends.noise_backend import NoiseBackend
from noise.functions.cipher import Cipher
from noise.functions.dh import DH
from noise.functions.hash import Hash
from noise.functions.keypair import KeyPair
from noise.noise_protocol import NoiseProtocol

from tailnet.agent.crypto.aead import Aead
from tailnet.agent.crypto.kdf import hash_, hmac_
from tailnet.agent.crypto.x25519 import KEY_LEN, public_bytes, shared
from tailnet.agent.errors import BadPacket


class Handshake:
    """Messages in turn, the initiator's first; of no use after one that did not authenticate."""

    def __init__(self, protocol: NoiseProtocol) -> None:
        """Use :meth:`begin`."""
        self._protocol = protocol
        self._state = protocol.handshake_state  # the library forgets it at the end

    @classmethod
    def begin(  # noqa: PLR0913 - each is one thing that a handshake is made of
        cls,
        name: bytes,
        prologue: bytes,
        *,
        private: bytes,
        ephemeral: bytes | None,
        remote: bytes | None,
        psk: bytes | None = None,
    ) -> Self:
        """Nothing is said yet.

        Args:
            name: of the protocol, such as ``Noise_IK_25519_ChaChaPoly_BLAKE2s``.
            prologue: what both sides must agree on.
            private: our static key.
            ephemeral: 32 random bytes, never used twice; from the caller, so that a handshake can
                be repeated.  ``None`` if only forks with one will speak.
            remote: the responder's static key, which makes us the initiator; ``None`` if it is
                ours.
            psk: 32 bytes, for a protocol that has one.
        """
        protocol = NoiseProtocol(name, _BACKEND)
        protocol.initiator = remote is not None
        protocol.prologue = prologue
        protocol.psks = None if psk is None else [psk]
        protocol.keypairs["s"] = _KeyPair.from_private_bytes(private)
        if remote is not None:
            protocol.keypairs["rs"] = _KeyPair.from_public_bytes(remote)
        protocol.validate()
        protocol.initialise_handshake_state()
        # After the start: the library warns of an ephemeral key that is there before it.
        if ephemeral is not None:
            protocol.handshake_state.e = _KeyPair.from_private_bytes(ephemeral)
        return cls(protocol)

    def write(self, payload: bytes) -> bytes:
        """Our next message.

        Raises:
            BadPacket: a key of the other side is a low-order point.
        """
        message = bytearray()
        self._state.write_message(payload, message)
        return bytes(message)

    def read_untrusted(self, message: bytes) -> bytes:
        """The payload of the other side's next message.

        Raises:
            BadPacket: it does not authenticate, or the handshake is over.
        """
        if not self._state.message_patterns:
            msg = "the handshake is over"
            raise BadPacket(msg)
        payload = bytearray()
        try:
            self._state.read_message(message, payload)
        except BadPacket:
            msg = "handshake does not authenticate"
            raise BadPacket(msg) from None
        return bytes(payload)

    def fork(self, ephemeral: bytes | None = None) -> Self:
        """Another one that stands where this one stands; what it reads changes only itself.

        ``ephemeral``: 32 random bytes of its own, where none has been said yet.
        """
        protocol, state = _copy(self._protocol), _copy(self._state)
        state.symmetric_state = symmetric = _copy(state.symmetric_state)
        symmetric.cipher_state = cipher = _copy(symmetric.cipher_state)
        cipher.cipher = _copy(cipher.cipher)
        state.message_patterns = state.message_patterns.copy()
        state.noise_protocol = symmetric.noise_protocol = protocol
        protocol.psks = protocol.psks and protocol.psks.copy()
        protocol.handshake_state = state
        protocol.symmetric_state = symmetric
        protocol.cipher_state_handshake = cipher
        if ephemeral is not None:
            state.e = _KeyPair.from_private_bytes(ephemeral)
        return type(self)(protocol)

    @property
    def remote(self) -> bytes:
        """The other side's static key, which a responder knows after the first message."""
        key: bytes = self._state.rs.public_bytes
        return key

    def keys(self) -> tuple[bytes, bytes]:
        """After the last message: of what we send, and of what we receive."""
        protocol = self._protocol
        return protocol.cipher_state_encrypt.k, protocol.cipher_state_decrypt.k

    @property
    def hash(self) -> bytes:
        """After the last message: 32 bytes that only these two sides have for this handshake."""
        seen: bytes = self._protocol.handshake_hash
        return seen


def _copy(thing: Any) -> Any:  # noqa: ANN401 - objects of an untyped library
    """As ``copy.copy`` of an ordinary object, in a tenth of its time."""
    other = object.__new__(type(thing))
    other.__dict__.update(thing.__dict__)
    return other


class _KeyPair(KeyPair):  # type: ignore[misc]
    @classmethod
    def from_private_bytes(cls, private_bytes: bytes) -> "_KeyPair":
        public = public_bytes(private_bytes)
        return cls(private_bytes, public, public)

    @classmethod
    def from_public_bytes(cls, public_bytes: bytes) -> "_KeyPair":
        return cls(None, public_bytes, public_bytes)


class _X25519(DH):  # type: ignore[misc]
    klass = _KeyPair
    dhlen = KEY_LEN

    def generate_keypair(self) -> _KeyPair:
        """Never asked: ephemeral keys come from the caller."""
        raise NotImplementedError

    def dh(self, private_key: bytes, public_key: bytes) -> bytes:
        return shared(private_key, public_key)


class _ChaChaPoly(Cipher):  # type: ignore[misc]
    klass = Aead

    def encrypt(self, k: bytes, n: int, ad: bytes, plaintext: bytes) -> bytes:
        del k  # the cipher has it
        sealed: bytes = self.cipher.seal(_nonce(n), plaintext, ad)
        return sealed

    def decrypt(self, k: bytes, n: int, ad: bytes, ciphertext: bytes) -> bytes:
        del k
        opened: bytes = self.cipher.open_untrusted(_nonce(n), ciphertext, ad)
        return opened


def _nonce(n: int) -> bytes:
    return bytes(4) + n.to_bytes(8, "little")


class _Blake2s(Hash):  # type: ignore[misc]
    fn = None  # of no use to our HMAC
    hashlen = 32
    blocklen = 64

    def hash(self, data: bytes) -> bytes:
        return hash_(data)


def _hmac(key: bytes, data: bytes, *, algorithm: None) -> bytes:
    del algorithm
    return hmac_(key, data)


class _Backend(NoiseBackend):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.diffie_hellmans = {"25519": _X25519}
        self.ciphers = {"ChaChaPoly": _ChaChaPoly}
        self.hashes = {"BLAKE2s": _Blake2s}
        self.keypairs = {"25519": _KeyPair}
        self.hmac = _hmac


_BACKEND = _Backend()
