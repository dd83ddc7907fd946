"""The handshake by ``noiseprotocol``: whole, slow, and the oracle for the other one.

The library's handshakes remember what they read, so every attempt to finish one is made on a fork.
"""

from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.noise.handshake import Handshake
from tailnet.agent.noise.wireguard.interface import (
    FIRST_LEN,
    NO_PSK,
    SECOND_LEN,
    TransportKeys,
)

PROTOCOL = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
PROLOGUE = b"WireGuard v1 zx2c4 Jason@zx2c4.com"


class ReferenceInitiator:
    """One attempt to reach a peer."""

    __slots__ = ("_handshake", "first")

    def __init__(self, handshake: Handshake, timestamp: bytes) -> None:
        self._handshake = handshake
        self.first = handshake.write(timestamp)

    def finish_untrusted(self, second: bytes) -> TransportKeys:
        """Keys, if ``second`` answers."""
        if len(second) != SECOND_LEN:
            msg = "not a handshake response"
            raise BadPacket(msg)
        handshake = self._handshake.fork()
        handshake.read_untrusted(second)
        return TransportKeys(*handshake.keys())


class ReferenceResponder:
    """A first message that authenticated."""

    __slots__ = ("_handshake", "remote", "timestamp")

    def __init__(self, handshake: Handshake, timestamp: bytes) -> None:
        self._handshake = handshake
        self.remote = NodePublic(handshake.remote)
        self.timestamp = timestamp

    def answer(self) -> tuple[bytes, TransportKeys]:
        """The second message and the keys."""
        second = self._handshake.write(b"")
        return second, TransportKeys(*self._handshake.keys())


class ReferenceHandshakes:
    """The :class:`~tailnet.agent.noise.wireguard.interface.Handshakes` in Python.

    Args:
        private: our static key.
        psk: 32 bytes.
    """

    __slots__ = ("_private", "_psk", "_template")

    def __init__(self, private: NodePrivate, psk: bytes = NO_PSK) -> None:
        self._private = private
        self._psk = psk
        self._template = self._handshake(None, None)

    def _handshake(self, ephemeral: bytes | None, remote: bytes | None) -> Handshake:
        return Handshake.begin(
            PROTOCOL,
            PROLOGUE,
            private=self._private.raw,
            ephemeral=ephemeral,
            remote=remote,
            psk=self._psk,
        )

    def begin(self, remote: NodePublic, ephemeral: bytes, timestamp: bytes) -> ReferenceInitiator:
        """Try to reach ``remote``."""
        return ReferenceInitiator(self._handshake(ephemeral, remote.raw), timestamp)

    def read_untrusted(self, first: bytes, ephemeral: bytes) -> ReferenceResponder:
        """Open a first message."""
        if len(first) != FIRST_LEN:
            msg = "not a handshake initiation"
            raise BadPacket(msg)
        handshake = self._template.fork(ephemeral)
        return ReferenceResponder(handshake, handshake.read_untrusted(first))
