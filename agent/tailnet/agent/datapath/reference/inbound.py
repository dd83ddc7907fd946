"""From datagrams to packets for the TUN device."""

from struct import Struct

from tailnet.agent.addr import SERVICES, AddrPort
from tailnet.agent.crypto.inplace import BadTag
from tailnet.agent.datapath.interface import (
    Confirmed,
    Handshake,
    NewSource,
    ToAgent,
    Upcall,
    Woke,
)
from tailnet.agent.datapath.reference import drops
from tailnet.agent.datapath.reference.clamp import clamp
from tailnet.agent.datapath.reference.classify import classify_untrusted, sealed_via
from tailnet.agent.datapath.reference.coalesce import Coalescer
from tailnet.agent.datapath.reference.intact import is_intact
from tailnet.agent.datapath.reference.outbound import Tap
from tailnet.agent.datapath.reference.reject import Replies
from tailnet.agent.datapath.reference.tables import Keys, Peer, SockAddr, Tables
from tailnet.agent.datapath.reference.traffic import DERP, kind
from tailnet.agent.datapath.reference.upcalls import UpcallQueue
from tailnet.agent.datapath.tap import Direction
from tailnet.agent.disco import geneve
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.match import Matcher, Verdict
from tailnet.agent.filter.parse import TCP, TSMP, Buffer, Parsed, parse_untrusted
from tailnet.agent.wireguard.constants import REJECT_AFTER_MESSAGES
from tailnet.agent.wireguard.cookie import has_mac1

FLUSH = 192 << 10  # bytes of packets after which writing them is better than waiting
_OVERHEAD = 32  # bytes of a transport message around the packet
_DATAGRAM = 0xFFFF  # the most that one read brings
_VIA = geneve.HEADER_LEN

_WITH_MAC1 = (1, 2)

_start = Struct("<QQ").unpack_from
_nonce = Struct("<4xQ").pack


class Inbound:
    """Opens, checks and collects; the caller writes :meth:`take` once ``full``, before more.

    ``confirmed`` gathers peers whose session was just proven, for the caller to flush.
    ``mac1_key``: of our own key; empty while it is not known.
    """

    __slots__ = (
        "_coalescer",
        "_drops",
        "_matcher",
        "_out",
        "_pos",
        "_replies",
        "_tables",
        "_upcalls",
        "_view",
        "confirmed",
        "mac1_key",
        "mtu",
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
        self._out = bytearray(FLUSH + _DATAGRAM)
        self._view = memoryview(self._out)
        self._pos = 0
        self.confirmed: list[Peer] = []
        self.mac1_key = b""
        self.mtu = 0
        self.tap: Tap | None = None
        self.set_offload(vnet_hdr=False, uso=False, tso=False)

    def set_offload(self, *, vnet_hdr: bool, uso: bool, tso: bool) -> None:
        """What the TUN device takes."""
        self._coalescer = Coalescer(vnet_hdr=vnet_hdr, tcp=vnet_hdr and tso, udp=vnet_hdr and uso)

    @property
    def full(self) -> bool:
        """Take and write before feeding more."""
        return self._pos >= FLUSH

    def take(self) -> list[list[Buffer]]:
        """Buffers for one ``writev`` each; valid until more is fed."""
        self._pos = 0
        writes = self._coalescer.take()
        self._drops[drops.IN_CHECKSUM] += self._coalescer.damaged
        self._coalescer.damaged = 0
        return writes

    def receive(  # noqa: C901, PLR0915 -- the loop that costs
        self, data: memoryview, size: int, src: SockAddr | None, now: float
    ) -> None:
        """Datagrams of ``size`` bytes each (the last may be shorter) from one source.

        ``src`` is ``None`` for what came through DERP.  At most 65,535 bytes at once.
        """
        view, pos, counts = self._view, self._pos, self._drops
        sessions = self._tables.sessions
        extend = self._coalescer.extend if self.tap is None else self._extend_tapped
        known: Keys | None = None
        # Of the session in hand: authenticated messages, data packets, bytes of IP.
        messages = packets = total = 0
        last_via = False
        length = len(data)
        for start in range(0, length, size):
            end = min(start + size, length)
            room = end - start - _OVERHEAD
            head, counter = _start(data, start) if room >= 0 else (0, 0)
            keys = sessions.get(head)
            at, via = start, False
            if keys is None and room >= _VIA and src is not None and sealed_via(data, start):
                at, room, via = start + _VIA, room - _VIA, True
                head, counter = _start(data, at)
                keys = sessions.get(head)
            if keys is not known or keys is None:
                if keys is None:
                    self._other(bytes(data[start:end]), src)
                    continue
                if known is not None:
                    self._account(known.peer, (messages, packets, total), src, last_via, now)
                messages = packets = total = 0
                known = keys
            last_via = via
            if now >= keys.expires or counter >= REJECT_AFTER_MESSAGES:
                counts[drops.IN_EXPIRED] += 1
                continue
            stop = pos + room
            try:
                keys.open_into(_nonce(counter), data[at + 16 : end], None, view[pos:stop])
            except BadTag:
                counts[drops.IN_FORGED] += 1
                continue
            if not keys.replay.check_and_set(counter):
                counts[drops.IN_REPLAY] += 1
                continue
            if keys.unconfirmed:
                self._confirm(keys)
            messages += 1
            packets += room > 0
            if taken := extend(keys.peer, view, pos, room):
                total += taken
                pos = stop
            elif room:
                taken = self._judge(keys.peer, pos, room, now)
                total += taken
                pos += room if taken else 0
        self._pos = pos
        if known is not None:
            self._account(known.peer, (messages, packets, total), src, last_via, now)

    def _judge(self, peer: Peer, start: int, size: int, now: float) -> int:
        """The long way for one packet; returns its bytes of IP, or 0 if it does not go further."""
        view = self._view
        try:
            packet = parse_untrusted(view[start : start + size])
        except BadPacket:
            self._drops[drops.IN_MALFORMED] += 1
            self._tapped(peer, start, size, drops.IN_MALFORMED)
            return 0
        reason = self._foreign(peer, packet, view[start : start + size])
        if not reason and peer.masquerade is not None:
            packet = peer.masquerade.entering(view[start : start + size], packet)
        reason = reason or self._refused(peer, packet, now)
        if reason:
            self._drops[reason] += 1
        self._tapped(peer, start, packet.length, reason)
        if reason == drops.IN_CHECKSUM:
            return packet.length  # carried, as what the coalescer leaves out
        if reason:
            return 0
        if packet.proto == TSMP:
            message = bytes(view[start : start + packet.length])
            self._replies.tsmp(message, now)
            self._put(ToAgent(peer.id, message))
            return 0
        if packet.proto == TCP:
            clamp(view[start : start + size], packet, self.mtu, begun=False)
        self._coalescer.add(peer, packet, view, start, size)
        return packet.length

    def _foreign(self, peer: Peer, packet: Parsed, data: memoryview) -> str:
        """The counter for why a packet is none that the peer may send; empty if it is one."""
        if peer.prefixes.lookup(packet.src) is None:
            return drops.IN_SOURCE
        if packet.dst in SERVICES or packet.src in SERVICES:
            return drops.IN_SERVICE  # services of ours are not for peers, nor theirs for us
        return "" if is_intact(data, packet) else drops.IN_CHECKSUM

    def _refused(self, peer: Peer, packet: Parsed, now: float) -> str:
        """The counter for why the filter does not let a packet through; empty if it does."""
        if packet.proto == TSMP:
            return ""
        verdict = self._matcher.inbound(packet)
        if verdict is Verdict.ACCEPT:
            return ""
        self._replies.refused(peer, packet, now, shields_up=self._matcher.closed)
        return drops.INBOUND[verdict]

    def _extend_tapped(self, peer: Peer, view: memoryview, start: int, size: int) -> int:
        """As the coalescer's, with a copy for the tap, which is not told later what is damaged."""
        data = view[start : start + size]
        try:
            if not is_intact(data, parse_untrusted(data)):
                return 0
        except BadPacket:
            return 0
        taken = self._coalescer.extend(peer, view, start, size)
        if taken:
            self._tapped(peer, start, taken)
        return taken

    def _tapped(self, peer: Peer, start: int, size: int, reason: str = "") -> None:
        if self.tap is not None:
            self.tap(Direction.IN, reason, peer.id, self._view[start : start + size])

    def _confirm(self, keys: Keys) -> None:
        keys.unconfirmed = False
        evicted = keys.peer.keys.confirm(keys)
        if evicted is not None:
            self._tables.forget(evicted)
            self._upcalls.put(Confirmed(keys.peer.id, keys.index))
            self.confirmed.append(keys.peer)

    def _account(
        self, peer: Peer, tally: tuple[int, int, int], src: SockAddr | None, via: bool, now: float
    ) -> None:
        messages, packets, total = tally
        if not messages:
            return
        if packets:
            family = 6 if src is not None and ":" in src[0] else 4
            way = DERP if src is None else kind(family, via=via)
            self._tables.traffic.received(way, packets, total)
        due = peer.note_received(now, packets, total)
        if due:
            self._upcalls.put(Woke(peer.id, due))
        used = None if peer.head else peer.sockaddr
        if src is not None and not via and src not in (used, peer.reported):
            peer.reported = src
            self._put(NewSource(peer.id, AddrPort.of(*src)))

    def _other(self, data: bytes, src: SockAddr | None) -> None:
        """Not a transport message of a session we have."""
        if src is not None:
            upcall = classify_untrusted(data, AddrPort.of(*src)) if len(data) >= 4 else None
            if isinstance(upcall, Handshake) and self.mac1_key:
                message = upcall.data
                wanted = message[0] not in _WITH_MAC1 or has_mac1(self.mac1_key, message)
                upcall = upcall if wanted else None
            if upcall is not None:
                self._put(upcall)
                return
        if src is not None and len(data) >= _OVERHEAD + _VIA and sealed_via(data, 0):
            data = data[_VIA:]
        transport = len(data) >= _OVERHEAD and data[:4] == b"\x04\0\0\0"
        self._drops[drops.IN_NO_SESSION if transport else drops.IN_UNKNOWN] += 1

    def _put(self, upcall: Upcall) -> None:
        if not self._upcalls.put(upcall):
            self._drops[drops.UPCALLS_FULL] += 1
