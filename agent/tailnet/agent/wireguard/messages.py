r"""Layout of WireGuard's messages; integers are little-endian.

Offsets in bytes::

    initiation, 148     0 type = 1   4 sender   8 noise 108                116 mac1   132 mac2
    response, 92        0 type = 2   4 sender   8 receiver   12 noise 48    60 mac1    76 mac2
    cookie reply, 64    0 type = 3   4 receiver   8 nonce 24   32 sealed cookie 16 + 16
    transport, 32 + n   0 type = 4   4 receiver   8 counter (u64)   16 ciphertext n, tag 16

The type is a u32, so three zero bytes follow it.  Sender and receiver are u32 indices, random and
local to whoever chose them.  ``n`` is 0 for a keepalive.

Source: WireGuard paper §5.4.
"""

import struct
from typing import NamedTuple

from tailnet.agent.errors import BadPacket

INITIATION, RESPONSE, COOKIE_REPLY, TRANSPORT = 1, 2, 3, 4

INITIATION_LEN = 148
RESPONSE_LEN = 92
COOKIE_REPLY_LEN = 64
TRANSPORT_MIN_LEN = 32
MAC_LEN = 16  # bytes; two of them end the first two messages
COOKIE_NONCE_LEN = 24

_LENGTHS = {INITIATION: INITIATION_LEN, RESPONSE: RESPONSE_LEN, COOKIE_REPLY: COOKIE_REPLY_LEN}
_INITIATION = struct.Struct("<II108s")
_RESPONSE = struct.Struct("<III48s")
_COOKIE_REPLY = struct.Struct("<II24s32s")


class Initiation(NamedTuple):
    """First message, MACs apart."""

    sender: int
    noise: bytes  # 108 bytes


class Response(NamedTuple):
    """Second message, MACs apart."""

    sender: int
    receiver: int
    noise: bytes  # 48 bytes


class CookieReply(NamedTuple):
    """A responder under load wants proof of address first."""

    receiver: int
    nonce: bytes  # 24 bytes
    sealed: bytes  # 32 bytes


def handshake_type_untrusted(data: bytes) -> int:
    """1, 2 or 3.

    Raises:
        BadPacket: another type, or not the exact length of its type.
    """
    kind = int.from_bytes(data[:4], "little")
    if _LENGTHS.get(kind) != len(data):
        msg = "not a handshake message"
        raise BadPacket(msg)
    return kind


def encode_initiation(message: Initiation) -> bytes:
    """The 116 bytes before the MACs."""
    return _INITIATION.pack(INITIATION, *message)


def encode_response(message: Response) -> bytes:
    """The 60 bytes before the MACs."""
    return _RESPONSE.pack(RESPONSE, *message)


def encode_cookie_reply(message: CookieReply) -> bytes:
    """All 64 bytes."""
    return _COOKIE_REPLY.pack(COOKIE_REPLY, *message)


def parse_initiation_untrusted(data: bytes) -> Initiation:
    """Take an initiation apart; its MACs are not looked at.

    Raises:
        BadPacket: wrong type or length.
    """
    _expect(data, INITIATION)
    return Initiation(*_INITIATION.unpack_from(data)[1:])


def parse_response_untrusted(data: bytes) -> Response:
    """Take a response apart; its MACs are not looked at.

    Raises:
        BadPacket: wrong type or length.
    """
    _expect(data, RESPONSE)
    return Response(*_RESPONSE.unpack_from(data)[1:])


def parse_cookie_reply_untrusted(data: bytes) -> CookieReply:
    """Take a cookie reply apart.

    Raises:
        BadPacket: wrong type or length.
    """
    _expect(data, COOKIE_REPLY)
    return CookieReply(*_COOKIE_REPLY.unpack(data)[1:])


def _expect(data: bytes, kind: int) -> None:
    if handshake_type_untrusted(data) != kind:
        msg = "another handshake message"
        raise BadPacket(msg)
