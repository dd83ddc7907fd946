"""NAT-PMP, RFC 6886.  UDP to port 5351 of the gateway, numbers big-endian.

::

    external address   00 00
    map UDP            00 01 │ 0000 │ internal port │ wished port │ lifetime u32, 0 deletes

    its answers        00 80 │ result │ epoch u32 │ IPv4 address
                       00 81 │ result │ epoch u32 │ internal port │ external port │ lifetime u32
"""

from enum import IntEnum
from ipaddress import IPv4Address
from struct import Struct
from typing import NamedTuple

from tailnet.agent.errors import BadPacket

PORT = 5351

_MAP = Struct("!BBHHHI")
_HEAD = Struct("!BBHI")
_MAPPED = Struct("!HHI")
_ANSWER = 0x80

EXTERNAL_REQUEST = b"\0\0"


class Result(IntEnum):
    """What the gateway says; an unknown number is a failure."""

    OK = 0
    UNSUPPORTED_VERSION = 1
    NOT_AUTHORIZED = 2
    NETWORK_FAILURE = 3
    OUT_OF_RESOURCES = 4
    UNSUPPORTED_OPCODE = 5


class External(NamedTuple):
    """Our address on the other side.  ``ip`` is ``None`` when the gateway has none itself."""

    epoch: int
    ip: IPv4Address | None


class Mapped(NamedTuple):
    """A mapping made, or with ``lifetime`` 0 [s] removed."""

    epoch: int
    internal: int
    external: int
    lifetime: int


class Refused(NamedTuple):
    """There is a gateway that speaks it and does not want to."""

    result: int


Answer = External | Mapped | Refused


def map_request(internal: int, wished: int, lifetime: int) -> bytes:
    """Map UDP for ``lifetime`` seconds; 0 removes the mapping."""
    return _MAP.pack(0, 1, 0, internal, wished, lifetime)


def parse_untrusted(data: bytes) -> Answer:
    """An answer.

    Raises:
        BadPacket: anything else.
    """
    if len(data) < _HEAD.size:
        msg = "no NAT-PMP answer"
        raise BadPacket(msg)
    version, op, result, epoch = _HEAD.unpack_from(data)
    if version != 0 or op not in (_ANSWER, _ANSWER | 1):
        msg = "no NAT-PMP answer"
        raise BadPacket(msg)
    if result != Result.OK:
        return Refused(result)
    body = data[_HEAD.size :]
    if op == _ANSWER and len(body) == 4:
        ip = IPv4Address(body)
        return External(epoch, None if ip.is_unspecified else ip)
    if op == _ANSWER | 1 and len(body) == _MAPPED.size:
        return Mapped(epoch, *_MAPPED.unpack(body))
    msg = "a NAT-PMP answer of another length"
    raise BadPacket(msg)
