"""PCP, RFC 6887: ANNOUNCE and MAP.  UDP to port 5351 of the gateway, numbers big-endian.

::

    request    02 │ op │ 0000 │ lifetime u32 │ our address 16
    answer     02 │ op|80 │ 00 │ result │ lifetime u32 │ epoch u32 │ reserved 12

    ANNOUNCE   op 0, header alone
    MAP        op 1, header + nonce 12 │ protocol │ 000000 │ internal port │ external port │
               external address 16

IPv4 addresses are IPv4-mapped.
"""

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import NamedTuple

from tailnet.agent.addr import IPAddress, unmap
from tailnet.agent.errors import BadPacket

NONCE_LEN = 12

_REQUEST = Struct("!BBHI16s")
_ANSWER_HEAD = Struct("!BBBBII12x")
_MAP = Struct("!12sB3xHH16s")
_VERSION, _ANNOUNCE, _OP_MAP, _ANSWER, _UDP = 2, 0, 1, 0x80, 17


class Result(IntEnum):
    """What the gateway says; an unknown number is a failure."""

    OK = 0
    UNSUPPORTED_VERSION = 1
    NOT_AUTHORIZED = 2
    ADDRESS_MISMATCH = 12  # there is another NAT between us


class Announced(NamedTuple):
    """Somebody speaks PCP."""

    epoch: int


class Mapped(NamedTuple):
    """A mapping made, or with ``lifetime`` 0 [s] removed."""

    epoch: int
    nonce: bytes
    internal: int
    external: int
    ip: IPAddress
    lifetime: int


class Refused(NamedTuple):
    """There is a gateway that speaks it and does not want to."""

    result: int


Answer = Announced | Mapped | Refused


def _mapped(ip: IPv4Address) -> bytes:
    return bytes(10) + b"\xff\xff" + ip.packed


def announce_request(own: IPv4Address) -> bytes:
    """Is anybody there."""
    return _REQUEST.pack(_VERSION, _ANNOUNCE, 0, 0, _mapped(own))


def map_request(own: IPv4Address, nonce: bytes, internal: int, wished: int, lifetime: int) -> bytes:
    """Map UDP for ``lifetime`` seconds; 0 removes the mapping that has this nonce."""
    head = _REQUEST.pack(_VERSION, _OP_MAP, 0, lifetime, _mapped(own))
    return head + _MAP.pack(nonce, _UDP, internal, wished, _mapped(IPv4Address(0)))


def parse_untrusted(data: bytes) -> Answer:
    """An answer.

    Raises:
        BadPacket: anything else.
    """
    if len(data) < _ANSWER_HEAD.size:
        msg = "no PCP answer"
        raise BadPacket(msg)
    version, op, _, result, lifetime, epoch = _ANSWER_HEAD.unpack_from(data)
    if version != _VERSION or op not in (_ANSWER | _ANNOUNCE, _ANSWER | _OP_MAP):
        msg = "no PCP answer"
        raise BadPacket(msg)
    if result != Result.OK:
        return Refused(result)
    if op == _ANSWER | _ANNOUNCE:
        return Announced(epoch)
    if len(data) < _ANSWER_HEAD.size + _MAP.size:
        msg = "a short PCP answer"
        raise BadPacket(msg)
    nonce, protocol, internal, external, ip = _MAP.unpack_from(data, _ANSWER_HEAD.size)
    if protocol != _UDP:
        msg = "a PCP answer for another protocol"
        raise BadPacket(msg)
    return Mapped(epoch, nonce, internal, external, unmap(IPv6Address(ip)), lifetime)
