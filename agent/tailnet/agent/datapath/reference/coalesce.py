"""Packets of one batch, joined into the super-packets a TUN device takes.

Source: wireguard-go tun/offload_linux.go (tcpGRO, udpGRO); Linux net/ipv4/tcp_offload.c
tcp_gro_receive.  Like the kernel, and unlike wireguard-go, a group also needs one window.
"""

from tailnet.agent.datapath.reference import vnet
from tailnet.agent.datapath.reference.checksum import complement, pseudo_sum, word_sum
from tailnet.agent.datapath.reference.intact import is_intact
from tailnet.agent.filter.parse import ACK, PSH, TCP, UDP, Buffer, Parsed, parse_untrusted

MAX_IP = 0xFFFF  # bytes of one super-packet
MAX_ITEMS = 512  # of one group; IOV_MAX is 1024

_DONT_FRAGMENT = 0x40

Key = tuple[int, bytes, bytes, int, int]


def _field(offset: int, size: int, header: int) -> int:
    """Mask of a field in a header taken as one big-endian number."""
    return ((1 << 8 * size) - 1) << 8 * (header - offset - size)


class Group:
    """Packets of one flow that follow each other.

    Headers are compared as one big number: everything must be equal but the IPv4 identification,
    the checksums, and the sequence number, which must be the next.

    Checksums are added up and looked at once, when the group leaves.  Where the sum is wrong, each
    packet is looked at, and the sound ones leave alone.
    """

    __slots__ = (
        "_head",
        "_proto",
        "_transport",
        "_version",
        "closed",
        "count",
        "damaged",
        "expected",
        "header",
        "items",
        "length",
        "mask",
        "owner",
        "payload",
        "plain",
        "pushed",
        "room",
        "shift",
        "step",
        "sum",
    )

    def __init__(self, owner: object, packet: Parsed, header: int, padded: memoryview) -> None:
        length, plain = packet.length, len(padded)
        self.owner = owner
        self.plain = plain  # bytes with padding, by which a full-size packet is known
        self.header = header  # bytes of IP and transport header
        self.length = length
        self.payload = length - header
        self.shift = 8 * (plain - header)
        self.items = [padded[:length]]
        self.count = 1
        self.room = min(MAX_ITEMS, (MAX_IP - header) // self.payload) - 1
        self.closed = self.pushed = False
        self.damaged = 0
        self._proto, self._version = packet.proto, packet.version
        self._transport = transport = packet.payload
        self._head = padded[:header]
        ignore = _field(4, 2, header) | _field(10, 2, header) if packet.version == 4 else 0
        if packet.proto == TCP:
            ignore |= _field(transport + vnet.TCP_CSUM, 2, header)
            self.step = self.payload << 8 * (header - transport - 8)
            self.pushed = self.closed = bool(packet.flags & PSH)
        else:
            ignore |= _field(transport + vnet.UDP_CSUM, 2, header)
            self.step = 0
        self.mask = ((1 << 8 * header) - 1) & ~ignore
        number = int.from_bytes(padded, "big")
        self.expected = ((number >> self.shift) & self.mask) + self.step
        self.sum = number << 8 if plain & 1 else number

    def matches_last(self, packet: Parsed, view: memoryview, start: int) -> bool:
        """True if ``packet`` may end the group: a shorter one, or one with PSH."""
        header, transport = self.header, self._transport
        if packet.payload != transport or not header < packet.length <= self.length:
            return False
        ignore = _field(2, 2, header) if self._version == 4 else _field(4, 2, header)
        if self._proto == TCP:
            ignore |= _field(transport + 13, 1, header) & (PSH << 8 * (header - transport - 14))
        else:
            ignore |= _field(transport + 4, 2, header)
        number = int.from_bytes(view[start : start + header], "big")
        return not ((number ^ self.expected) & self.mask & ~ignore)

    def end_with(self, packet: Parsed, view: memoryview, start: int) -> None:
        """Add what :meth:`matches_last` accepted, and close."""
        end = start + packet.length
        number = int.from_bytes(view[start:end], "big")
        self.sum += number << 8 if packet.length & 1 else number
        self.items.append(view[start:end])
        self.count += 1
        self.pushed = self._proto == TCP and bool(packet.flags & PSH)
        self.closed = True

    def writes(self) -> list[list[Buffer]]:
        """What to write, each with its virtio-net header in front; ``damaged`` are left out."""
        if self.count == 1:
            return [[vnet.PLAIN, self.items[0]]]
        size = self.header + sum(map(len, self.items)) - self.count * self.header
        head = bytearray(self._head)
        transport, header = self._transport, self.header
        v4 = self._version == 4
        src, dst = (head[12:16], head[16:20]) if v4 else (head[8:24], head[24:40])
        base = pseudo_sum(src, dst, self._proto, 0)
        lengths = sum(map(len, self.items)) - self.count * transport
        # Sum of all words of all packets, with the IPv4 headers (zero if right), without IPv6's.
        total = self.sum + self.count * base + lengths
        if not v4:
            total -= (self.count - 1) * word_sum(self.items[0][:transport])
            total -= word_sum(self.items[-1][:transport])
        if total % 0xFFFF:
            sound = [item for item in self.items if is_intact(item, parse_untrusted(item))]
            self.damaged = self.count - len(sound)
            return [[vnet.PLAIN, item] for item in sound]
        if v4:
            head[2:4] = size.to_bytes(2, "big")
            head[10:12] = b"\0\0"
            head[10:12] = complement(word_sum(head[:transport])).to_bytes(2, "big")
            kind = vnet.GSO_TCP4
        else:
            head[4:6] = (size - 40).to_bytes(2, "big")
            kind = vnet.GSO_TCP6
        length = size - transport
        # The kernel adds the rest of the sum: it wants the pseudo header's, not complemented.
        begun = pseudo_sum(src, dst, self._proto, length).to_bytes(2, "big")
        if self._proto == TCP:
            offset = vnet.TCP_CSUM
            if self.pushed:
                head[transport + 13] |= PSH
        else:
            offset, kind = vnet.UDP_CSUM, vnet.GSO_UDP
            head[transport + 4 : transport + 6] = length.to_bytes(2, "big")
        head[transport + offset : transport + offset + 2] = begun
        hint = vnet.HEADER.pack(vnet.NEEDS_CSUM, kind, header, self.payload, transport, offset)
        return [[hint, head, *[item[header:] for item in self.items]]]


class Coalescer:
    """Collects a batch in order of arrival; order inside a flow is kept.

    With ``tcp`` and ``udp`` false every packet leaves alone; ``vnet_hdr`` says whether a header is
    written in front.  ``damaged``: packets that were left out because of their checksums.
    """

    __slots__ = ("_entries", "_last", "_open", "_tcp", "_udp", "_vnet", "damaged")

    def __init__(self, *, vnet_hdr: bool, tcp: bool, udp: bool) -> None:
        self._vnet, self._tcp, self._udp = vnet_hdr, tcp and vnet_hdr, udp and vnet_hdr
        self._entries: list[Group | Buffer] = []
        self._open: dict[Key, Group] = {}
        self._last: Group | None = None
        self.damaged = 0

    def extend(self, owner: object, view: memoryview, start: int, plain: int) -> int:
        """The short way: a full-size packet that continues the flow of the one before.

        ``view[start : start + plain]`` is a decrypted packet, padding included, of the peer
        ``owner``.  Everything that was decided about the packet before (source, filter) holds for
        this one: their headers are equal.  Returns its bytes of IP, or 0 if it was not taken.
        """
        group = self._last
        if group is None or group.plain != plain or group.owner is not owner:
            return 0
        number = int.from_bytes(view[start : start + plain], "big")
        if (number >> group.shift) & group.mask != group.expected or group.room <= 0:
            return 0
        if group.closed:
            return 0
        group.items.append(view[start : start + group.length])
        group.sum += number << 8 if plain & 1 else number
        group.expected += group.step
        group.count += 1
        group.room -= 1
        return group.length

    def add(self, owner: object, packet: Parsed, view: memoryview, start: int, plain: int) -> None:
        """The long way, for a packet that was judged, its checksums too, and accepted."""
        self._last = None
        header = self._header_of(packet, view, start)
        key = (packet.proto, packet.src, packet.dst, packet.src_port, packet.dst_port)
        if not header:
            self._open.pop(key, None)  # what follows must not overtake this one
            self._entries.append(view[start : start + packet.length])
            return
        group = self._open.get(key)
        if group is not None and group.owner is owner and not group.closed and group.room > 0:
            if group.plain == plain and self._resume(group, owner, view, start, plain):
                return
            if group.matches_last(packet, view, start):
                group.end_with(packet, view, start)
                del self._open[key]
                return
        group = Group(owner, packet, header, view[start : start + plain])
        self._entries.append(group)
        self._open[key] = self._last = group

    def _resume(
        self, group: Group, owner: object, view: memoryview, start: int, plain: int
    ) -> bool:
        self._last = group
        if self.extend(owner, view, start, plain):
            return True
        self._last = None
        return False

    def _header_of(self, packet: Parsed, view: memoryview, start: int) -> int:
        """Bytes of headers of a packet that may join others; 0 if it may not."""
        proto, transport = packet.proto, packet.payload
        if proto == TCP and self._tcp:
            header = transport + (view[start + transport + 12] >> 4) * 4
            fit = packet.flags & ~PSH == ACK and header >= transport + 20
        elif proto == UDP and self._udp:
            header = transport + 8
            at = start + transport
            fit = view[at + 6] != 0 or view[at + 7] != 0  # 0: no checksum to add up
            fit = fit and int.from_bytes(view[at + 4 : at + 6], "big") == packet.length - transport
        else:
            return 0
        if packet.version == 4:
            whole = not view[start + 6] & ~_DONT_FRAGMENT and not view[start + 7]
            fit = fit and whole and transport == 20
        else:
            fit = fit and transport == 40
        return header if fit and header < packet.length else 0

    def take(self) -> list[list[Buffer]]:
        """Everything collected, one list of buffers per ``writev``; the batch is over."""
        out: list[list[Buffer]] = []
        for entry in self._entries:
            if isinstance(entry, Group):
                out += entry.writes()
                self.damaged += entry.damaged
            elif self._vnet:
                out.append([vnet.PLAIN, entry])
            else:
                out.append([entry])
        self._entries.clear()
        self._open.clear()
        self._last = None
        return out
