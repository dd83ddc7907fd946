"""What the filter needs to know of an IP packet.

Source: tailscale net/packet/packet.go, Parsed.Decode; net/packet/ip4.go, ip6.go.
"""

from struct import Struct
from typing import NamedTuple

from tailnet.agent.errors import BadPacket

UNKNOWN, ICMP4, IGMP, TCP, UDP, ICMP6, TSMP, SCTP = 0, 1, 2, 6, 17, 58, 99, 132
FRAGMENT = 255  # a later fragment: not a protocol on the wire, as UNKNOWN is not

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

# Bytes of transport header that must be there for the protocol to be believed.
MIN_HEADER = {ICMP4: 4, ICMP6: 4, IGMP: 8, TCP: 20, UDP: 8, SCTP: 12, TSMP: 7}
_WITH_PORTS = frozenset({TCP, UDP, SCTP})

# A later fragment below this offset [8 bytes] could overwrite a transport header.
_MIN_FRAGMENT = (60 + 20) // 8
_MORE_FRAGMENTS = 0x2000
_OFFSET = 0x1FFF
_IPV6_FRAGMENT = 44

_ports = Struct(">HH").unpack_from
_u16 = Struct(">H").unpack_from

Buffer = bytes | bytearray | memoryview


class Parsed(NamedTuple):
    """Addresses are packed.  ``flags``: TCP flags, or the ICMP type; ``code``: the ICMP code.

    ``payload``: offset of the transport header.  ``length``: as the IP header says.
    """

    version: int
    proto: int
    src: bytes
    dst: bytes
    src_port: int
    dst_port: int
    flags: int
    code: int
    payload: int
    length: int


def parse_untrusted(packet: Buffer) -> Parsed:
    """Parse an IP packet as far as the filter looks.

    ``proto`` is :data:`UNKNOWN` where the transport cannot be trusted.

    Raises:
        BadPacket: not IP, or its lengths do not fit into ``packet``.
    """
    size = len(packet)
    if size < 20:
        msg = "too short for IP"
        raise BadPacket(msg)
    version = packet[0] >> 4
    if version == 4:
        src, dst, proto, payload, length, fragment = _parse_ip4(packet)
    elif version == 6:
        src, dst, proto, payload, length, fragment = _parse_ip6(packet)
    else:
        msg = "not IP"
        raise BadPacket(msg)
    proto = _believed(proto, fragment, length - payload)
    src_port = dst_port = flags = code = 0
    if proto in _WITH_PORTS:
        src_port, dst_port = _ports(packet, payload)
        if proto == TCP:
            flags = packet[payload + 13]
    elif proto in (ICMP4, ICMP6):
        flags, code = packet[payload], packet[payload + 1]
    return Parsed(version, proto, src, dst, src_port, dst_port, flags, code, payload, length)


def _believed(proto: int, fragment: int, size: int) -> int:
    """The protocol the filter sees, for ``size`` bytes from the transport header on."""
    if proto in (UNKNOWN, FRAGMENT):
        return UNKNOWN
    if offset := fragment & _OFFSET:
        return FRAGMENT if offset >= _MIN_FRAGMENT else UNKNOWN
    if size < MIN_HEADER.get(proto, 0) or (fragment & _MORE_FRAGMENTS and proto == TSMP):
        return UNKNOWN
    return proto


_Located = tuple[bytes, bytes, int, int, int, int]
"""Source, destination, protocol, payload offset, length, IPv4's flags and fragment offset."""


def _parse_ip4(packet: Buffer) -> _Located:
    payload = (packet[0] & 0x0F) * 4
    (length,) = _u16(packet, 2)
    if payload < 20 or not payload <= length <= len(packet):
        msg = "bad IPv4 length"
        raise BadPacket(msg)
    (fragment,) = _u16(packet, 6)
    return bytes(packet[12:16]), bytes(packet[16:20]), packet[9], payload, length, fragment


def _parse_ip6(packet: Buffer) -> _Located:
    length = _u16(packet, 4)[0] + 40 if len(packet) >= 40 else 1 << 16
    if length > len(packet):
        msg = "bad IPv6 length"
        raise BadPacket(msg)
    proto, payload, fragment = packet[6], 40, 0
    if proto == _IPV6_FRAGMENT:
        if length < 48:
            proto = UNKNOWN
        else:
            proto, payload = packet[40], 48
            (word,) = _u16(packet, 42)
            fragment = word >> 3 | (_MORE_FRAGMENTS if word & 1 else 0)
    return bytes(packet[8:24]), bytes(packet[24:40]), proto, payload, length, fragment
