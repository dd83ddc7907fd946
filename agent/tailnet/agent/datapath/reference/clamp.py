"""The MSS option of opening segments, kept to what fits the tunnel.

Hosts behind subnet routers and exit nodes know their own link's MTU, not the tunnel's.

Source: RFC 9293 §3.7.1; RFC 1624 §3, the incremental checksum.
"""

from tailnet.agent.datapath.reference.checksum import complement
from tailnet.agent.filter.parse import SYN, TCP, Parsed

_HEADER = 20
_CHECKSUM = 16  # offset
_END, _NOTHING, _MSS = 0, 1, 2  # kinds of options


def clamp(packet: memoryview, parsed: Parsed, mtu: int, *, begun: bool) -> None:
    """Lower the MSS of a SYN or SYN-ACK, if the packets it asks for are longer than ``mtu``.

    ``begun``: the checksum covers the pseudo header only, and somebody finishes it later.
    """
    if parsed.proto != TCP or not parsed.flags & SYN:
        return
    most = mtu - _HEADER - (20 if parsed.version == 4 else 40)
    segment = packet[parsed.payload : parsed.length]
    at = _find(segment)
    if at is None or not 0 <= most <= 0xFFFF:
        return
    old = int.from_bytes(segment[at : at + 2], "big")
    if old <= most:
        return
    segment[at : at + 2] = most.to_bytes(2, "big")
    if begun:
        return
    # In a word that is not aligned the bytes count the other way around.
    shift = 8 if at % 2 else 0
    field = slice(_CHECKSUM, _CHECKSUM + 2)
    total = (int.from_bytes(segment[field], "big") ^ 0xFFFF) + ((most - old) << shift)
    segment[field] = complement(total).to_bytes(2, "big")


def _find(segment: memoryview) -> int | None:
    """Where the value of the MSS option is."""
    end = (segment[12] >> 4) * 4
    if end > len(segment):
        return None
    at = _HEADER
    while at < end and (kind := segment[at]) != _END:
        if kind == _NOTHING:
            at += 1
            continue
        size = segment[at + 1] if at + 1 < end else 0
        if kind == _MSS:
            return at + 2 if size == 4 and at + 4 <= end else None
        if size < 2:
            return None
        at += size
    return None
