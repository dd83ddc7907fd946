"""WireGuard's handshake: Noise IKpsk2, without message headers, MACs and indices.

Noise messages inside the WireGuard messages::

    first   ephemeral 32  sealed static 32 + 16  sealed timestamp 12 + 16      108 bytes
    second  ephemeral 32  sealed nothing 16                                     48 bytes

The prologue is WireGuard's identifier string.  A WireGuard receiver must survive any number of
forged answers, so nothing here is changed by reading: every attempt to finish an :class:`Initiator`
is made on a fork of it.

Source: WireGuard paper §5.4; Noise Protocol Framework, revision 34, §9.
"""

from dataclasses import dataclass

from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.noise.handshake import Handshake

PROTOCOL = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
PROLOGUE = b"WireGuard v1 zx2c4 Jason@zx2c4.com"

FIRST_LEN = 108
SECOND_LEN = 48
NO_PSK = bytes(32)  # mixed in all the same


@dataclass(frozen=True, slots=True)
class TransportKeys:
    """Outcome of a handshake, seen from one side.

    Attributes:
        send: 32-byte key of what we seal.
        receive: 32-byte key of what we open.
    """

    send: bytes
    receive: bytes

    def __repr__(self) -> str:
        return "<TransportKeys>"


class Initiator:
    """One attempt to reach a peer.

    Args:
        private: our static key.
        remote: the peer's static key.
        ephemeral: 32 random bytes, never used twice.
        timestamp: 12 bytes TAI64N.
        psk: 32 bytes.

    Attributes:
        first: the first message, 108 bytes.

    Raises:
        BadPacket: the peer's key is a low-order point.
    """

    __slots__ = ("_handshake", "first")

    def __init__(
        self,
        private: NodePrivate,
        remote: NodePublic,
        ephemeral: bytes,
        timestamp: bytes,
        psk: bytes = NO_PSK,
    ) -> None:
        self._handshake = Handshake.begin(
            PROTOCOL,
            PROLOGUE,
            private=private.raw,
            ephemeral=ephemeral,
            remote=remote.raw,
            psk=psk,
        )
        self.first = self._handshake.write(timestamp)

    def finish_untrusted(self, second: bytes) -> TransportKeys:
        """Keys, if ``second`` (48 bytes) answers :attr:`first`; may be tried again if not.

        Raises:
            BadPacket: wrong size, or it does not authenticate.
        """
        if len(second) != SECOND_LEN:
            msg = "not a handshake response"
            raise BadPacket(msg)
        handshake = self._handshake.fork()
        handshake.read_untrusted(second)
        return TransportKeys(*handshake.keys())


class Responder:
    """A first message that authenticated.

    Attributes:
        remote: the initiator's static key; whether it is a peer is for the caller to say.
        timestamp: 12 bytes TAI64N; whether it is new is for the caller to say.
    """

    __slots__ = ("_handshake", "remote", "timestamp")

    def __init__(self, handshake: Handshake, remote: NodePublic, timestamp: bytes) -> None:
        self._handshake = handshake
        self.remote = remote
        self.timestamp = timestamp

    def answer(self) -> tuple[bytes, TransportKeys]:
        """The second message (48 bytes) and the keys.  Once.

        Raises:
            BadPacket: a key of the initiator is a low-order point.
        """
        second = self._handshake.write(b"")
        return second, TransportKeys(*self._handshake.keys())


class Reader:
    """Opens first messages for one static key, whose share of every handshake is done once.

    Args:
        private: our static key.
        psk: 32 bytes.
    """

    __slots__ = ("_template",)

    def __init__(self, private: NodePrivate, psk: bytes = NO_PSK) -> None:
        self._template = Handshake.begin(
            PROTOCOL, PROLOGUE, private=private.raw, ephemeral=None, remote=None, psk=psk
        )

    def read_untrusted(self, first: bytes, ephemeral: bytes) -> Responder:
        """Open a first message (108 bytes); ``ephemeral``: 32 random bytes, never used twice.

        Raises:
            BadPacket: wrong size, or it does not authenticate.
        """
        if len(first) != FIRST_LEN:
            msg = "not a handshake initiation"
            raise BadPacket(msg)
        handshake = self._template.fork(ephemeral)
        timestamp = handshake.read_untrusted(first)
        return Responder(handshake, NodePublic(handshake.remote), timestamp)
