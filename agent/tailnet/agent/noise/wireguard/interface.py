"""WireGuard's handshake without message headers, MACs and indices, whoever computes it.

Noise messages inside the WireGuard messages::

    first   ephemeral 32  sealed static 32 + 16  sealed timestamp 12 + 16      108 bytes
    second  ephemeral 32  sealed nothing 16                                     48 bytes

The prologue is WireGuard's identifier string.  A WireGuard receiver must survive any number of
forged answers, so nothing here is changed by reading.

Source: WireGuard paper §5.4; Noise Protocol Framework, revision 34, §9.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tailnet.agent.keys import NodePrivate, NodePublic

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


class Initiator(Protocol):
    """One attempt to reach a peer."""

    @property
    def first(self) -> bytes:
        """The first message, 108 bytes."""

    def finish_untrusted(self, second: bytes) -> TransportKeys:
        """Keys, if ``second`` (48 bytes) answers :attr:`first`; may be tried again if not.

        Raises:
            BadPacket: wrong size, or it does not authenticate.
        """


class Responder(Protocol):
    """A first message that authenticated."""

    @property
    def remote(self) -> NodePublic:
        """The initiator's static key; whether it is a peer is for the caller to say."""

    @property
    def timestamp(self) -> bytes:
        """12 bytes TAI64N; whether it is new is for the caller to say."""

    def answer(self) -> tuple[bytes, TransportKeys]:
        """The second message (48 bytes) and the keys.  Once.

        Raises:
            BadPacket: a key of the initiator is a low-order point.
        """


class Handshakes(Protocol):
    """All handshakes of one static key, whose share of every handshake is done once."""

    def begin(self, remote: NodePublic, ephemeral: bytes, timestamp: bytes) -> Initiator:
        """Try to reach ``remote``.

        Args:
            remote: the peer's static key.
            ephemeral: 32 random bytes, never used twice.
            timestamp: 12 bytes TAI64N.

        Raises:
            BadPacket: the peer's key is a low-order point.
        """

    def read_untrusted(self, first: bytes, ephemeral: bytes) -> Responder:
        """Open a first message (108 bytes); ``ephemeral``: 32 random bytes, never used twice.

        Raises:
            BadPacket: wrong size, or it does not authenticate.
        """


MakeHandshakes = Callable[[NodePrivate], Handshakes]
"""Of a static key, without a pre-shared one."""
