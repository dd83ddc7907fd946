"""Super-packets of the TUN device, cut into packets fit for the wire.

Source: Linux net/ipv4/tcp_offload.c tcp_gso_segment, net/ipv4/udp_offload.c; RFC 3168 §6.1.2
(CWR on the first segment only).
"""

from collections.abc import Iterator
from struct import Struct

from tailnet.agent.datapath.reference import vnet
from tailnet.agent.datapath.reference.checksum import complement, pseudo_sum, word_sum
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.parse import FIN, PSH, TCP, UDP

MAX_SEGMENTS = 2048  # of one read; the kernel's smallest MSS makes fewer
_CWR = 0x80

_u16 = Struct(">H")
_tcp_start = Struct(">4sI5sB2s")  # ports, seq, ack and data offset, flags, window

Span = tuple[int, int]


def split(buffer: bytearray, size: int) -> Iterator[Span]:
    """Packets of one read: virtio-net header and IP packet are ``buffer[:size]``.

    Yields (start, end) within ``buffer``.  Payloads stay where they are: each segment's headers
    are written in front of its payload, over the end of the segment before.  So a segment is valid
    only until the next one is asked for, and nobody copies a payload.

    Raises:
        BadPacket: the headers do not fit the packet.
    """
    if size < vnet.LEN:
        msg = "no virtio-net header"
        raise BadPacket(msg)
    flags, kind, _, gso_size, csum_start, csum_offset = vnet.HEADER.unpack_from(buffer)
    kind &= ~vnet.GSO_ECN
    transport = vnet.LEN + csum_start
    if kind == vnet.GSO_NONE:
        if flags & vnet.NEEDS_CSUM:
            _finish_checksum(buffer, transport, csum_offset, size)
        return iter(((vnet.LEN, size),))
    version = buffer[vnet.LEN] >> 4 if size > vnet.LEN else 0
    if kind == vnet.GSO_UDP:
        payload = transport + 8
    elif kind == (vnet.GSO_TCP4 if version == 4 else vnet.GSO_TCP6) and transport + 20 <= size:
        payload = transport + (buffer[transport + 12] >> 4) * 4
        if payload < transport + 20:
            payload = size
    else:
        payload = size
    header = 40 if version == 6 else (buffer[vnet.LEN] & 0x0F) * 4
    if version not in (4, 6) or csum_start < header or header < 20 or not gso_size:
        payload = size
    if payload >= size or size - payload > gso_size * MAX_SEGMENTS:
        msg = "a super-packet with broken headers"
        raise BadPacket(msg)
    cut = _split_udp if kind == vnet.GSO_UDP else _split_tcp
    return cut(buffer, size, transport, payload, gso_size)


def _finish_checksum(buffer: bytearray, start: int, offset: int, size: int) -> None:
    """The field holds the pseudo-header sum: add the rest, store the complement."""
    at = start + offset
    if at + 2 > size:
        msg = "a checksum outside the packet"
        raise BadPacket(msg)
    total = complement(word_sum(memoryview(buffer)[start:size]))
    # UDP's 0 means "no checksum"; 0xFFFF is the same number.
    _u16.pack_into(buffer, at, total or (0xFFFF if offset == vnet.UDP_CSUM else 0))


class _IpWriter:
    """Writes the IP header of each segment from the super-packet's."""

    __slots__ = ("_buffer", "_id", "_pack", "_parts", "_sum", "pseudo", "v4")

    def __init__(self, buffer: bytearray, transport: int, proto: int) -> None:
        ip = vnet.LEN
        head = bytes(buffer[ip:transport])
        self._buffer = buffer
        self.v4 = head[0] >> 4 == 4
        if self.v4:
            self._pack = Struct(f">2sHH4sH{len(head) - 12}s").pack_into
            self._id = _u16.unpack_from(head, 4)[0]
            self._parts = (head[:2], head[6:10], head[12:])
            self._sum = word_sum(head[:2] + head[6:10] + head[12:])
            self.pseudo = pseudo_sum(head[12:16], head[16:20], proto, 0)
        else:
            self._pack = Struct(f">4sH{len(head) - 6}s").pack_into
            self._id = 0
            self._parts = (head[:4], head[6:], b"")
            self._sum = len(head) - 40
            self.pseudo = pseudo_sum(head[8:24], head[24:40], proto, 0)

    def write(self, at: int, index: int, header: int, length: int) -> None:
        """Header of segment ``index`` at ``at``: ``header`` bytes, then ``length`` bytes."""
        first, second, rest = self._parts
        if self.v4:
            total = header + length
            ip_id = (self._id + index) & 0xFFFF
            checksum = -(self._sum + total + ip_id) % 0xFFFF
            self._pack(self._buffer, at, first, total, ip_id, second, checksum, rest)
        else:
            self._pack(self._buffer, at, first, self._sum + length, second)


def _split_tcp(
    buffer: bytearray, size: int, transport: int, payload: int, gso_size: int
) -> Iterator[Span]:
    view = memoryview(buffer)
    ip_len, tcp_len = transport - vnet.LEN, payload - transport
    header = ip_len + tcp_len
    ip = _IpWriter(buffer, transport, TCP)
    write_ip = ip.write
    ports, seq, ack, flags, window = _tcp_start.unpack_from(buffer, transport)
    rest = bytes(buffer[transport + 18 : payload])  # urgent pointer and options
    pack_tcp = Struct(f">4sI5sB2sH{len(rest)}s").pack_into
    # ``ack`` ends with the first half of a word, of which ``flags`` is the second.
    fixed = ip.pseudo + word_sum(ports) + word_sum(ack) + word_sum(window) + word_sum(rest)
    middle = flags & ~(FIN | PSH | _CWR)
    bits = (gso_size >> 2) << 4
    mask = (1 << bits) - 1
    from_bytes = int.from_bytes
    at, index, last = payload, 0, size - gso_size
    while at < size:
        if at < last:  # a full segment with another behind it: the common case
            end, length = at + gso_size, tcp_len + gso_size
            flag = middle if index else flags & ~(FIN | PSH)
        else:
            end, length = size, tcp_len + size - at
            flag = flags & ~_CWR if index else flags
        number = from_bytes(view[at:end], "big")
        if length & 1:
            number <<= 8
        # word_sum() of the payload, spelled out: it is half of the loop's time.
        number = ((number >> bits) + (number & mask)) % 0xFFFF
        start = at - header
        checksum = -(fixed + length + seq + flag + number) % 0xFFFF
        write_ip(start, index, ip_len, length)
        pack_tcp(buffer, start + ip_len, ports, seq, ack, flag, window, checksum, rest)
        yield start, end
        seq = (seq + gso_size) & 0xFFFFFFFF
        index += 1
        at = end


def _split_udp(
    buffer: bytearray, size: int, transport: int, payload: int, gso_size: int
) -> Iterator[Span]:
    view = memoryview(buffer)
    ip_len = transport - vnet.LEN
    ip = _IpWriter(buffer, transport, UDP)
    ports = bytes(buffer[transport : transport + 4])
    fixed = ip.pseudo + word_sum(ports)
    pack_udp = Struct(">4sHH").pack_into
    for index, at in enumerate(range(payload, size, gso_size)):
        end = min(at + gso_size, size)
        length = 8 + end - at
        # The length counts twice: in the pseudo header and in the header.
        checksum = complement(fixed + 2 * length + word_sum(view[at:end])) or 0xFFFF
        start = at - 8 - ip_len
        ip.write(start, index, ip_len, length)
        pack_udp(buffer, start + ip_len, ports, length, checksum)
        yield start, end
