"""Our own address as one peer knows it, where that is another one.

Source: tailscale net/tstun/wrap.go, peerConfigTable; RFC 1624 §3, the incremental checksum.
"""

from collections.abc import Sequence

from tailnet.agent.addr import IPAddress
from tailnet.agent.datapath.reference.checksum import complement, word_sum
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.parse import ICMP6, TCP, UDP, Parsed, parse_untrusted

_IPV4_CHECKSUM = 10
_SOURCE = {4: 12, 6: 8}
_DESTINATION = {4: 16, 6: 24}
_CHECKSUMS = {(4, TCP): 16, (6, TCP): 16, (4, UDP): 6, (6, UDP): 6, (6, ICMP6): 2}


class Masquerade:
    """Pairs of our address and the one that the peer knows, at most one of each family."""

    __slots__ = ("_known", "_own")

    def __init__(self, pairs: Sequence[tuple[IPAddress, IPAddress]]) -> None:
        self._known = {own.packed: known.packed for own, known in pairs}
        self._own = {known.packed: own.packed for own, known in pairs}

    def leaving(self, data: memoryview) -> memoryview:
        """A packet to the peer: ours becomes what it knows, in a copy."""
        try:
            packet = parse_untrusted(data)
        except BadPacket:
            return data
        known = self._known.get(packet.src)
        if known is None:
            return data
        copy = bytearray(data)
        _readdress(memoryview(copy), packet, _SOURCE[packet.version], known)
        return memoryview(copy)

    def entering(self, data: memoryview, packet: Parsed) -> Parsed:
        """A packet of the peer: what it knows becomes ours, in place."""
        own = self._own.get(packet.dst)
        if own is None:
            return packet
        _readdress(data, packet, _DESTINATION[packet.version], own)
        return packet._replace(dst=own)


def _readdress(data: memoryview, packet: Parsed, at: int, address: bytes) -> None:
    """Set an address of the header; whole checksums follow."""
    stop = at + len(address)
    change = word_sum(address) - word_sum(data[at:stop])
    data[at:stop] = address
    if packet.version == 4:
        _adjust(data, _IPV4_CHECKSUM, change)
    offset = _CHECKSUMS.get((packet.version, packet.proto))
    if offset is None:
        return  # the addresses are in no other sum
    at = packet.payload + offset
    if packet.proto != UDP:
        _adjust(data, at, change)
    elif any(data[at : at + 2]):  # UDP may have none
        _adjust(data, at, change)
        if not any(data[at : at + 2]):
            data[at : at + 2] = b"\xff\xff"  # the same number, which does not mean "none"


def _adjust(data: memoryview, at: int, change: int) -> None:
    total = (int.from_bytes(data[at : at + 2], "big") ^ 0xFFFF) + change
    data[at : at + 2] = complement(total).to_bytes(2, "big")
