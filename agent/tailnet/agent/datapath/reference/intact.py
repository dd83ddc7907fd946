"""Whether a packet is as its sender made it, as far as checksums tell.

A checksum that is not there is not wrong: UDP's may be 0 by IPv4, and by IPv6 where the receiver's
socket allows it (RFC 6935, RFC 6936), which nobody can know on the way.  A part of a datagram
cannot be judged, nor can other protocols.
"""

from struct import Struct

from tailnet.agent.datapath.reference.checksum import pseudo_sum, word_sum
from tailnet.agent.filter.parse import ICMP4, ICMP6, TCP, UDP, Buffer, Parsed

_PART = 0x3FFF  # More-Fragments and the offset
_IPV6_FRAGMENT, _IPV6_PART = 44, 0xFFF9
_SUMMED = frozenset({(4, TCP), (4, UDP), (6, TCP), (6, UDP), (6, ICMP6)})  # with a pseudo header

_u16 = Struct(">H").unpack_from
_udp = Struct(">4xHH").unpack_from


def header_holds(data: Buffer, packet: Parsed) -> bool:
    """True if IPv4's header is; IPv6's has no checksum."""
    return packet.version == 6 or not word_sum(data[: packet.payload])


def is_intact(data: Buffer, packet: Parsed) -> bool:
    """True if the header is, and what TCP, UDP or ICMP carries."""
    return header_holds(data, packet) and (_is_part(data) or _transport_holds(data, packet))


def _is_part(data: Buffer) -> bool:
    if data[0] >> 4 == 4:
        return bool(_u16(data, 6)[0] & _PART)
    return data[6] == _IPV6_FRAGMENT and len(data) >= 44 and bool(_u16(data, 42)[0] & _IPV6_PART)


def _transport_holds(data: Buffer, packet: Parsed) -> bool:
    proto = packet.proto
    body = data[packet.payload : packet.length]
    if (packet.version, proto) == (4, ICMP4):
        return not word_sum(body) and any(body)
    if (packet.version, proto) not in _SUMMED:
        return True
    if proto == UDP:
        size, checksum = _udp(body)
        if not checksum:
            return True
        if not 8 <= size <= len(body):
            return False  # there is less than was summed
        body = body[:size]
    total = pseudo_sum(packet.src, packet.dst, proto, len(body)) + word_sum(body)
    return not total % 0xFFFF
