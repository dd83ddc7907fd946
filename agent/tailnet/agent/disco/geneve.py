"""Geneve, the wrapping of what goes through a peer relay.

::

    0          1            2            4           7   8
    ├──────────┼────────────┼────────────┼───────────┼───┤
    │ 00       │ 80 control │ protocol   │ VNI u24   │ 0 │ payload
    └──────────┴────────────┴────────────┴───────────┴───┘
    protocol:  7A11 disco, 7A12 WireGuard

The control bit is set on what is for the relay itself; everything else passes through it.

Source: RFC 8926 section 3.4; tailscale net/packet/geneve.go.
"""

from enum import IntEnum
from typing import NamedTuple

from tailnet.agent.errors import BadPacket

HEADER_LEN = 8
MAX_VNI = (1 << 24) - 1
_CONTROL = 0x80


class Protocol(IntEnum):
    """Of the payload."""

    DISCO = 0x7A11
    WIREGUARD = 0x7A12


class Header(NamedTuple):
    """``vni``: which session of the relay, 1 to 2²⁴ − 1."""

    protocol: Protocol
    vni: int
    control: bool = False


def encode(header: Header) -> bytes:
    """The eight bytes."""
    flags = _CONTROL if header.control else 0
    return bytes((0, flags)) + header.protocol.to_bytes(2) + header.vni.to_bytes(3) + b"\0"


def parse_untrusted(data: bytes) -> Header:
    """The header of a datagram; the payload follows it.

    Raises:
        BadPacket: options, another protocol, or bits that must be zero.
    """
    if len(data) < HEADER_LEN or data[0] != 0 or data[1] & ~_CONTROL or data[7]:
        msg = "no Geneve header of a relay"
        raise BadPacket(msg)
    try:
        protocol = Protocol(int.from_bytes(data[2:4]))
    except ValueError:
        msg = "another protocol in Geneve"
        raise BadPacket(msg) from None
    return Header(protocol, int.from_bytes(data[4:7]), bool(data[1] & _CONTROL))
