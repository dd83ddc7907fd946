"""From IP packets to sealed datagrams."""

from collections.abc import Callable, Iterable
from struct import Struct
from typing import NamedTuple, Protocol

from tailnet.agent.addr import SERVICES
from tailnet.agent.datapath.interface import NoSession, Woke
from tailnet.agent.datapath.reference import drops, vnet
from tailnet.agent.datapath.reference.checksum import word_sum
from tailnet.agent.datapath.reference.clamp import clamp
from tailnet.agent.datapath.reference.intact import header_holds, is_intact
from tailnet.agent.datapath.reference.reject import Replies, is_opening
from tailnet.agent.datapath.reference.split import Span, split
from tailnet.agent.datapath.reference.tables import Keys, Peer, Tables
from tailnet.agent.datapath.reference.upcalls import UpcallQueue
from tailnet.agent.datapath.tap import Direction
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.match import Matcher, Verdict
from tailnet.agent.filter.parse import SYN, TCP, TSMP, UDP, Buffer, Parsed, parse_untrusted
from tailnet.agent.keys import PeerId

HEADER, TAG = 16, 16  # bytes of a transport message around the ciphertext
FLUSH = 256 << 10  # bytes of sealed datagrams after which sending them is better than waiting
_RESERVE = 512 << 10  # the most that one read can become: 2048 segments with headers
READ = vnet.LEN + 0xFFFF  # bytes of the longest read
SLACK = 16  # bytes behind a read, for padding

_TAGGED = 60  # bytes; IPv6 and TCP without options
_FRAGMENT = 0x3FFF  # More-Fragments and the offset
_PORTS = frozenset({TCP, UDP})

_u16 = Struct(">H").unpack_from
_header = Struct("<QQ").pack_into
_nonce = Struct("<4xQ").pack


class Service(Protocol):
    """Takes packets that are for the daemon's services."""

    def hand_over(self, read: Buffer, *, vnet_hdr: bool) -> bool:
        """False if it was not taken."""


Tap = Callable[[Direction, str, PeerId | None, Buffer], None]
"""Takes copies: direction, drop counter or empty, peer, packet."""


class Run(NamedTuple):
    """Datagrams to one peer: ``data`` cut every ``size`` bytes; the last may be shorter.

    Each begins with the peer's ``head``.
    """

    peer: Peer
    data: memoryview
    size: int


def padded(length: int, mtu: int) -> int:
    """Length with padding: a multiple of 16, but never beyond the MTU (0: no limit).

    Source: wireguard-go device/send.go, calculatePaddingSize.
    """
    if not mtu:
        return -(-length // 16) * 16
    last = length % mtu if length > mtu else length
    return length - last + min(-(-last // 16) * 16, mtu)


def flow_tag(buffer: bytearray, start: int, size: int) -> bytes | bytearray:
    """Protocol, addresses and ports of a whole TCP or UDP packet, ``buffer[start:size]``.

    Empty for whatever must be parsed in full: SYNs, fragments, options, odd lengths, other
    protocols.
    Packets with equal tags have one verdict and one peer.
    """
    length = size - start
    if length < _TAGGED:
        return b""
    first = buffer[start] >> 4
    (total,) = _u16(buffer, start + 2 if first == 4 else start + 4)
    if first == 4:
        proto = buffer[start + 9]
        whole = buffer[start] == 0x45 and not _u16(buffer, start + 6)[0] & _FRAGMENT
        tag = buffer[start + 9 : start + 24]
        tag[1:3] = b"\0\0"  # the header's checksum
    else:
        proto = buffer[start + 6]
        whole, total = first == 6, total + 40
        tag = buffer[start + 6 : start + 44]
    if not whole or total != length or proto not in _PORTS:
        return b""
    if proto == TCP and buffer[start + (33 if first == 4 else 53)] & SYN:
        return b""
    return tag


class Outbound:
    """Chooses the peer, seals, and collects runs of equal datagrams for UDP_SEGMENT.

    Sealed datagrams stay in one buffer until :meth:`take`; the caller sends them before it feeds
    more than ``full`` allows.
    """

    __slots__ = (
        "_drops",
        "_matcher",
        "_out",
        "_pos",
        "_replies",
        "_runs",
        "_tables",
        "_tag",
        "_tag_peer",
        "_upcalls",
        "_view",
        "mtu",
        "service",
        "tap",
    )

    def __init__(
        self,
        tables: Tables,
        matcher: Matcher,
        upcalls: UpcallQueue,
        counts: dict[str, int],
        replies: Replies,
    ) -> None:
        self._tables, self._matcher, self._upcalls, self._drops = tables, matcher, upcalls, counts
        self._replies = replies
        self._out = bytearray(FLUSH + _RESERVE)
        self._view = memoryview(self._out)
        self._pos = 0
        # [peer, start, end, size, closed]: the last one may still grow.
        self._runs: list[tuple[Peer, int, int, int, bool]] = []
        # The flow of the packet before: most packets follow one of their own.
        self._tag: bytes | bytearray = b""
        self._tag_peer: Peer | None = None
        self.mtu = 0
        self.service: Service | None = None
        self.tap: Tap | None = None

    @property
    def full(self) -> bool:
        """Take and send before feeding more."""
        return self._pos >= FLUSH

    def take(self) -> list[Run]:
        """What is sealed; valid until more is fed."""
        view = self._view
        runs = [Run(peer, view[start:end], size) for peer, start, end, size, _ in self._runs]
        self._runs.clear()
        self._pos = 0
        return runs

    def read(self, buffer: bytearray, size: int, now: float, *, vnet_hdr: bool) -> None:
        """One read of the TUN device: ``buffer[:size]``, with SLACK bytes free behind it."""
        start = vnet.LEN if vnet_hdr else 0
        view = memoryview(buffer)
        tag = flow_tag(buffer, start, size)
        hint = buffer if vnet_hdr else vnet.PLAIN
        again = tag and tag == self._tag and vnet.settles(hint)
        damaged = buffer[start] >> 4 == 4 and word_sum(view[start : start + 20])
        if again and not damaged and self._tag_peer is not None:
            peer = self._tag_peer
        else:
            judged = self._judge(view[start:size], hint, now)
            if isinstance(judged, str):
                self._tag_peer = None
                self._stays(judged, view[:size], vnet_hdr=vnet_hdr)
                return
            peer = judged
            self._tag, self._tag_peer = tag, peer
        try:
            spans = split(buffer, size) if vnet_hdr else ((0, size),)
        except BadPacket:
            self._drops[drops.OUT_MALFORMED] += 1
            return
        self._send(peer, view, spans, now)

    def _judge(self, data: memoryview, hint: Buffer, now: float) -> Peer | str:
        """The peer a packet goes to, or the counter for why none gets it."""
        try:
            packet = parse_untrusted(data)
        except BadPacket:
            return drops.OUT_MALFORMED
        if reason := self._reason(packet, data, hint):
            return reason
        peer = self._tables.routes.lookup(packet.dst)
        if peer is None:
            self._replies.nobody(packet, data, now)
            return drops.OUT_NO_PEER
        if packet.proto == TCP and packet.flags & SYN:
            clamp(data, packet, self.mtu, begun=bool(hint[0] & vnet.NEEDS_CSUM))
            if is_opening(packet):
                self._replies.opening(packet, data, now)
        return peer

    def _reason(self, packet: Parsed, data: memoryview, hint: Buffer) -> str:
        """The counter for why a packet goes to no peer at all; empty if it may."""
        if packet.dst in SERVICES:
            return drops.OUT_SERVICE  # which look at checksums themselves
        if not (header_holds if vnet.settles(hint) else is_intact)(data, packet):
            return drops.OUT_CHECKSUM
        if packet.proto == TSMP:
            return drops.OUT_TSMP  # it is for daemons to speak
        if self._matcher.outbound(packet) is not Verdict.ACCEPT:
            return drops.OUT_FILTER
        return ""

    def _stays(self, reason: str, read: memoryview, *, vnet_hdr: bool) -> None:
        """No peer gets it: perhaps it is for a service of ours."""
        if (
            reason == drops.OUT_SERVICE
            and self.service is not None
            and self.service.hand_over(read, vnet_hdr=vnet_hdr)
        ):
            reason = ""
        if reason:
            self._drops[reason] += 1
        if self.tap is not None:
            self.tap(Direction.OUT, reason, None, read[vnet.LEN if vnet_hdr else 0 :])

    def forget_flow(self) -> None:
        """Peers changed: judge the next packet anew."""
        self._tag, self._tag_peer = b"", None

    def plain(self, peer: Peer, packet: bytes, now: float) -> None:
        """A packet of the daemon's own: no verdict, but replies to it may enter."""
        try:
            self._matcher.note_sent(parse_untrusted(packet))
        except BadPacket:
            self._drops[drops.OUT_MALFORMED] += 1
            return
        self._send(peer, memoryview(packet), ((0, len(packet)),), now)

    def flush(self, peer: Peer, now: float) -> bool:
        """Seal what waited for a session, until ``full``; false if there was nothing to do."""
        keys = peer.usable(now)
        if keys is None or not peer.queue:
            return False
        while peer.queue and not self.full:
            packet = peer.queue.popleft()
            self._seal(keys, memoryview(packet), ((0, len(packet)),), now)
        return True

    def keepalive(self, peer: Peer, now: float) -> None:
        """An empty packet, if there is a session."""
        keys = peer.usable(now)
        if keys is not None:
            self._seal(keys, memoryview(b""), ((0, 0),), now)

    def _send(self, peer: Peer, view: memoryview, spans: Iterable[Span], now: float) -> None:
        keys = peer.usable(now)
        if keys is not None:
            self._seal(keys, view, spans, now)
            return
        for start, end in spans:
            if not peer.enqueue(bytes(view[start:end])):
                self._drops[drops.OUT_QUEUE_FULL] += 1
        if not peer.asked:
            peer.asked = True
            self._upcalls.put(NoSession(peer.id))

    def _seal(self, keys: Keys, view: memoryview, spans: Iterable[Span], now: float) -> None:
        """The loop that costs: everything it needs is local, and nothing is copied."""
        out, out_view, pos = self._out, self._view, self._pos
        geneve = keys.peer.head
        head = len(geneve)
        seal_into, outer, counter, mtu = keys.seal_into, keys.outer, keys.counter, self.mtu
        run, size = pos, 0  # where this run of equal datagrams starts, and their size
        total = packets = 0
        tap, masquerade = self.tap, keys.peer.masquerade
        for start, end in spans:
            length = end - start
            data = view[start:end]
            if tap is not None and length:
                tap(Direction.OUT, "", keys.peer.id, data)
            if masquerade is not None:
                data = masquerade.leaving(data)
            total += length
            packets += 1
            if length & 15 and (full := padded(length, mtu)) != length:
                data, length = memoryview(bytes(data) + bytes(full - length)), full
            at = pos + head
            stop = at + HEADER + length + TAG
            if head:
                out[pos:at] = geneve
            _header(out, at, outer, counter)
            seal_into(_nonce(counter), data, None, out_view[at + HEADER : stop])
            counter += 1
            if stop - pos != size:
                if size and stop - pos < size:
                    self._add_run(keys.peer, run, stop, size)
                    run, size = stop, 0
                else:
                    if size:
                        self._add_run(keys.peer, run, pos, size)
                    run, size = pos, stop - pos
            pos = stop
        if pos > run:
            self._add_run(keys.peer, run, pos, size)
        keys.counter, self._pos = counter, pos
        if total and (kind := keys.peer.kind) is not None:
            self._tables.traffic.sent(kind, packets, total)
        due = keys.peer.note_sent(now, packets if total else 0, total)
        if due:
            self._upcalls.put(Woke(keys.peer.id, due))

    def _add_run(self, peer: Peer, start: int, end: int, size: int) -> None:
        """Join with the run before, if that is to the same peer and has no short end yet."""
        short = (end - start) % size != 0
        if self._runs:
            last, begin, _, last_size, closed = self._runs[-1]
            if last is peer and not closed:
                if last_size == size:
                    self._runs[-1] = (peer, begin, end, size, short)
                    return
                if end - start == size < last_size:
                    self._runs[-1] = (peer, begin, end, last_size, True)
                    return
        self._runs.append((peer, start, end, size, short))
