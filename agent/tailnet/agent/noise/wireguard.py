"""WireGuard's handshake: Noise IKpsk2, without message headers, MACs and indices.

Noise messages inside the WireGuard messages::

    first   ephemeral 32  sealed static 32 + 16  sealed timestamp 12 + 16      108 bytes
    second  ephemeral 32  sealed nothing 16                                     48 bytes

The prologue is WireGuard's identifier string.  A WireGuard receiver must survive any number of
forged answers, so nothing here is changed by reading: an :class:`Initiator` is a value, and every
attempt to finish it starts over from its ephemeral key.

Source: WireGuard paper §5.4; Noise Protocol Framework, revision 34, §9.
"""

from dataclasses import dataclass

from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.noise import ik

PROTOCOL = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
PROLOGUE = b"WireGuard v1 zx2c4 Jason@zx2c4.com"

FIRST_LEN = 108
SECOND_LEN = 48
TIMESTAMP_LEN = 12
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


@dataclass(frozen=True, slots=True, repr=False)
class Initiator:
    """One attempt to reach a peer.

    Attributes:
        private: our static key.
        remote: the peer's static key.
        ephemeral: 32 random bytes, never used twice.
        timestamp: 12 bytes TAI64N.
        psk: 32 bytes.
    """

    private: NodePrivate
    remote: NodePublic
    ephemeral: bytes
    timestamp: bytes
    psk: bytes = NO_PSK

    def write(self) -> bytes:
        """The first message, 108 bytes.

        Raises:
            BadPacket: the peer's key is a low-order point.
        """
        return self._written()[1]

    def finish_untrusted(self, second: bytes) -> TransportKeys:
        """Keys, if ``second`` (48 bytes) answers :meth:`write`; may be tried again if not.

        Raises:
            BadPacket: wrong size, or it does not authenticate.
        """
        if len(second) != SECOND_LEN:
            msg = "not a handshake response"
            raise BadPacket(msg)
        state, _ = self._written()
        state, _ = ik.read_second_untrusted(state, self.private.raw, self.ephemeral, second)
        send, receive = state.split()
        return TransportKeys(send, receive)

    def _written(self) -> tuple[ik.State, bytes]:
        private, remote = self.private.raw, self.remote.raw
        state = ik.start(PROTOCOL, PROLOGUE, remote, self.psk)
        return ik.write_first(state, private, self.ephemeral, remote, self.timestamp)


class Responder:
    """A first message that authenticated.

    Attributes:
        remote: the initiator's static key; whether it is a peer is for the caller to say.
        timestamp: 12 bytes TAI64N; whether it is new is for the caller to say.
    """

    __slots__ = ("_ephemeral", "_first", "_state", "remote", "timestamp")

    def __init__(self, state: ik.State, ephemeral: bytes, first: ik.First) -> None:
        self._state, self._ephemeral, self._first = state, ephemeral, first
        self.remote = NodePublic(first.static)
        self.timestamp = first.payload

    def answer(self) -> tuple[bytes, TransportKeys]:
        """The second message (48 bytes) and the keys.

        Raises:
            BadPacket: a key of the initiator is a low-order point.
        """
        state, second = ik.write_second(self._state, self._ephemeral, self._first, b"")
        receive, send = state.split()
        return second, TransportKeys(send, receive)


def read_first_untrusted(
    private: NodePrivate, ephemeral: bytes, first: bytes, psk: bytes = NO_PSK
) -> Responder:
    """Open a first message (108 bytes).

    Args:
        private: our static key.
        ephemeral: 32 random bytes, never used twice.
        first: what the initiator sent.
        psk: 32 bytes.

    Raises:
        BadPacket: wrong size, or it does not authenticate.
    """
    if len(first) != FIRST_LEN:
        msg = "not a handshake initiation"
        raise BadPacket(msg)
    state = ik.start(PROTOCOL, PROLOGUE, public_of(private).raw, psk)
    state, opened = ik.read_first_untrusted(state, private.raw, first)
    return Responder(state, ephemeral, opened)
