"""The handshake with a control server: Noise IK inside frames of its own.

Integers are big-endian::

    initiation  u16 version   u8 = 1  u16 length = 96  ephemeral 32  sealed static 48  tag 16
    response                  u8 = 2  u16 length = 48  ephemeral 32  tag 16
    error                     u8 = 3  u16 length       text, not authenticated

The initiator is the client and knows the server's static key; the client's static key is its
machine key.  ``version`` is the capability version and is part of the prologue.

Source: the Noise Protocol Framework, revision 34; tailscale control/controlbase/messages.go and
handshake.go.
"""

from dataclasses import dataclass

from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import MachinePrivate, MachinePublic
from tailnet.agent.noise.handshake import Handshake

PROTOCOL = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
PROLOGUE = b"Tailscale Control Protocol v%d"

TYPE_INITIATION = 1
TYPE_RESPONSE = 2
TYPE_ERROR = 3

HEADER_LEN = 3  # type and length; the initiation has two bytes of version in front
INITIATION_LEN = 101
RESPONSE_LEN = 51
EPHEMERAL_LEN = 32


@dataclass(frozen=True, slots=True)
class TransportKeys:
    """Outcome of a handshake, seen from one side.

    Attributes:
        send: 32-byte key of what we seal.
        receive: 32-byte key of what we open.
        hash: 32-byte handshake hash, equal on both sides.
    """

    send: bytes
    receive: bytes
    hash: bytes

    def __repr__(self) -> str:
        return "<TransportKeys>"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A server's view of a finished handshake.

    Attributes:
        response: the 51 bytes to send.
        machine: who the client is, for every request on this connection.
        version: the client's capability version.
    """

    response: bytes
    keys: TransportKeys
    machine: MachinePublic
    version: int


class Initiator:
    """A client's handshake: send :attr:`initiation`, then feed the response.

    Args:
        machine: our static key.
        server: the server's static key, from ``GET /key``.
        ephemeral: 32 random bytes, never used twice.
        version: the capability version we claim.

    Raises:
        BadPacket: the server's key is a low-order point.
    """

    def __init__(
        self, machine: MachinePrivate, server: MachinePublic, ephemeral: bytes, version: int
    ) -> None:
        self._handshake = Handshake.begin(
            PROTOCOL,
            PROLOGUE % version,
            private=machine.raw,
            ephemeral=ephemeral,
            remote=server.raw,
        )
        message = self._handshake.write(b"")
        head = version.to_bytes(2, "big") + _header(TYPE_INITIATION, len(message))
        self.initiation = head + message
        """The 101 bytes to send."""

    def read_response_untrusted(self, frame: bytes) -> TransportKeys:
        """Finish with the server's 51-byte response.

        Raises:
            BadPacket: wrong size, or it does not authenticate; the handshake is over.
        """
        if len(frame) != RESPONSE_LEN or frame[:HEADER_LEN] != _header(TYPE_RESPONSE, 48):
            msg = "not a Noise response"
            raise BadPacket(msg)
        self._handshake.read_untrusted(frame[HEADER_LEN:])
        return _transport_keys(self._handshake)


def respond_untrusted(initiation: bytes, server: MachinePrivate, ephemeral: bytes) -> Accepted:
    """The server's side, in one step.

    Args:
        initiation: 101 bytes from the client.
        server: our static key.
        ephemeral: 32 random bytes, never used twice.

    Raises:
        BadPacket: wrong size, or it does not authenticate; the text of the first two cases is
            what the stock server puts into an error frame.
    """
    if len(initiation) != INITIATION_LEN:
        msg = "wrong handshake initiation size"
        raise BadPacket(msg)
    version = int.from_bytes(initiation[:2], "big")
    if initiation[2:5] != _header(TYPE_INITIATION, 96):
        msg = "unexpected handshake message type"
        raise BadPacket(msg)
    handshake = Handshake.begin(
        PROTOCOL, PROLOGUE % version, private=server.raw, ephemeral=ephemeral, remote=None
    )
    handshake.read_untrusted(initiation[5:])
    machine = MachinePublic(handshake.remote)
    message = handshake.write(b"")
    response = _header(TYPE_RESPONSE, len(message)) + message
    return Accepted(response, _transport_keys(handshake), machine, version)


def error_frame(text: str) -> bytes:
    """An error frame, for a server that refuses an initiation."""
    body = text.encode()[:1024]
    return _header(TYPE_ERROR, len(body)) + body


def _header(kind: int, length: int) -> bytes:
    return bytes([kind]) + length.to_bytes(2, "big")


def _transport_keys(handshake: Handshake) -> TransportKeys:
    send, receive = handshake.keys()
    return TransportKeys(send, receive, handshake.hash)
