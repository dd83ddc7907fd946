"""Answers to packets that go no further: TSMP to the peer, ICMP to the host.

* The filter refused the first segment of a TCP connection: the peer's daemon is told, so that its
  host need not wait for a time-out.
* A peer told us that: the host gets an ICMP error that quotes the segment it sent.  Without the
  quote the kernel would not believe it, so the beginnings of opening segments are kept for a while.
* Nobody has the destination, or the peer does not answer: the host gets an ICMP error too.

Source: tailscale net/tstun/wrap.go, filterPacketInboundFromWireGuard; net/packet/tsmp.go;
wgengine/pendopen.go.  RFC 792, RFC 4443 §3.1; RFC 1122 §3.2.2 (what is never answered).
"""

from struct import Struct
from typing import NamedTuple

from tailnet.agent.datapath import tsmp
from tailnet.agent.datapath.reference.bucket import UNREACHABLE, Bucket
from tailnet.agent.datapath.reference.checksum import complement, pseudo_sum, word_sum
from tailnet.agent.datapath.reference.tables import Peer
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.flows import Flow
from tailnet.agent.filter.parse import (
    ACK,
    FRAGMENT,
    ICMP4,
    ICMP6,
    SYN,
    TCP,
    Buffer,
    Parsed,
    parse_untrusted,
)

QUOTE = 128  # bytes of the packet that an error is about
MAX_OPENS = 1024
OPEN_FOR = 5.0  # seconds in which a refusal counts
HOPS = 64

_V4 = Struct(">BBHHHBBH4s4s")
_V6 = Struct(">IHBB16s16s")
_NOBODY_THERE = "FT"  # reasons that blame the way, not the rules


class Codes(NamedTuple):
    """ICMP type and code."""

    v4: tuple[int, int]
    v6: tuple[int, int]


NOBODY = Codes((3, 1), (1, 3))  # host or address unreachable
PROHIBITED = Codes((3, 13), (1, 1))  # administratively


def is_opening(packet: Parsed) -> bool:
    """True for the first segment of a connection."""
    return packet.proto == TCP and packet.flags & (SYN | ACK) == SYN


class Replies:
    """Answers that wait to be sent, and what is needed to make them.

    Attributes:
        to_host: IP packets for the TUN device.
        to_peers: packets to seal.
    """

    __slots__ = ("_opens", "_unreachable", "to_host", "to_peers")

    def __init__(self) -> None:
        self._opens: dict[Flow, tuple[float, bytes]] = {}  # the oldest first
        self._unreachable = Bucket(UNREACHABLE)
        self.to_host: list[bytes] = []
        self.to_peers: list[tuple[Peer, bytes]] = []

    def opening(self, packet: Parsed, data: Buffer, now: float) -> None:
        """A SYN leaves."""
        opens = self._opens
        opens[_flow(packet)] = (now, bytes(data[:QUOTE]))
        if len(opens) > MAX_OPENS:
            del opens[next(iter(opens))]

    def refused(self, peer: Peer, packet: Parsed, now: float, *, shields_up: bool) -> None:
        """The filter refused a peer's packet: say so, if it would have opened a connection."""
        if is_opening(packet) and peer.rejects.take(now):
            reason = tsmp.Reason.SHIELDS_UP if shields_up else tsmp.Reason.RULES
            flow = _flow(packet)
            self.to_peers.append((peer, tsmp.encode_rejected(flow, reason)))

    def tsmp(self, packet: bytes, now: float) -> None:
        """A TSMP message came: if it refuses what the host just began, tell the host."""
        try:
            message = tsmp.parse_untrusted(packet)
        except BadPacket:
            return
        if not isinstance(message, tsmp.Rejected) or message.maybe_broken:
            return
        flow = message.flow
        at, quote = self._opens.get(flow, (0.0, b""))
        if not quote:
            return
        self._opens[flow] = (at, b"")  # each is answered once
        if now - at <= OPEN_FOR:
            self._tell(quote, NOBODY if message.reason in _NOBODY_THERE else PROHIBITED)

    def nobody(self, packet: Parsed, data: Buffer, now: float) -> None:
        """No peer has the destination of a packet, or it does not answer: tell the host."""
        silent = (
            (packet.proto == ICMP4 and packet.flags != 8)  # an error, or an answer
            or (packet.proto == ICMP6 and packet.flags != 128)
            or packet.proto == FRAGMENT
        )
        if not silent and self._unreachable.take(now):
            self._tell(bytes(data[:QUOTE]), NOBODY)

    def gave_up(self, queue: "list[bytes]", now: float) -> None:
        """These waited for a session that does not come."""
        for data in queue:
            try:
                self.nobody(parse_untrusted(data), data, now)
            except BadPacket:
                continue

    def _tell(self, quote: bytes, codes: Codes) -> None:
        if (packet := icmp(quote, codes)) is not None:
            self.to_host.append(packet)


def _flow(packet: Parsed) -> Flow:
    return Flow(packet.proto, packet.src, packet.dst, packet.src_port, packet.dst_port)


def icmp(quote: bytes, codes: Codes) -> bytes | None:
    """The ICMP error about a packet of the host; ``None`` if its source forbids one."""
    v6 = quote[0] >> 4 == 6
    src, dst = (quote[8:24], quote[24:40]) if v6 else (quote[12:16], quote[16:20])
    if not any(src) or src[0] >= (0xFF if v6 else 0xE0):
        return None
    # As if the destination said it: an address of our own would be a martian for the kernel.
    body = bytes([*(codes.v6 if v6 else codes.v4), 0, 0, 0, 0, 0, 0]) + quote
    begun = pseudo_sum(src, dst, ICMP6, len(body)) if v6 else 0
    total = complement(begun + word_sum(body))
    body = body[:2] + total.to_bytes(2, "big") + body[4:]
    if v6:
        return _V6.pack(6 << 28, len(body), ICMP6, HOPS, dst, src) + body
    head = (0x45, 0, 20 + len(body), 0, 0, HOPS, ICMP4)
    total = complement(word_sum(_V4.pack(*head, 0, dst, src)))
    return _V4.pack(*head, total, dst, src) + body
