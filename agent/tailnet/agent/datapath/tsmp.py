"""TSMP, the messages that daemons send each other through the tunnel.

IP protocol 99 right after an IPv4 or IPv6 header, no checksum, never in fragments; at least 7 bytes
of payload::

    ping       'p'  8 bytes
    pong       'o'  the same 8 bytes  u16be peerAPI port (0: none; may be missing)
    disco key  'a'  32 bytes
    rejected   '!'  IP protocol  reason  u16be source port  u16be destination port  [flags]

An IPv4 header of ours has no options, TTL 64 and no fragmentation flags.

Source: tailscale net/packet/tsmp.go, header.go; wgengine/userspace.go.
"""

import struct
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from tailnet.agent.addr import IPAddress
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.flows import Flow
from tailnet.agent.keys import DiscoPublic

PROTO = 99
MIN_LEN = 7  # bytes of payload
PING_DATA_LEN = 8
HOPS = 64

_V4 = struct.Struct(">BBHHHBBH4s4s")
_V6 = struct.Struct(">IHBB16s16s")
_REJECTED = struct.Struct(">BBHH")
_FRAGMENT = 0x3FFF  # more-fragments flag and offset


class Header(NamedTuple):
    """What matters of the IP header; ``ip_id`` is 0 for IPv6."""

    src: IPAddress
    dst: IPAddress
    ip_id: int = 0


class Ping(NamedTuple):
    """Asks the daemon, not the host, whether it is there."""

    header: Header
    data: bytes  # 8 bytes


class Pong(NamedTuple):
    """Answers a ping."""

    header: Header
    data: bytes  # 8 bytes
    peerapi_port: int  # for the address family of the packet; 0 is none


class DiscoKey(NamedTuple):
    """The sender's disco key, in case control has not told us."""

    header: Header
    key: DiscoPublic


class Reason(StrEnum):
    """Why a flow is rejected; others may come."""

    RULES = "A"
    SHIELDS_UP = "S"
    FORWARDING = "F"  # is off in the kernel of a relaying node
    FIREWALL = "W"  # of the destination's host
    TRANSIT = "T"  # an address that an app connector does not know


class Rejected(NamedTuple):
    """Why a flow of ours is not let in; the ports are in the flow's own order."""

    header: Header
    proto: int
    reason: str  # usually one of Reason
    src_port: int
    dst_port: int
    maybe_broken: bool  # a hint only; the flow may yet work

    @property
    def flow(self) -> Flow:
        """The flow as it left us."""
        src, dst, _ = self.header
        return Flow(self.proto, dst.packed, src.packed, self.src_port, self.dst_port)


Message = Ping | Pong | DiscoKey | Rejected


def parse_untrusted(packet: bytes) -> Message:
    """Take an IP packet with a TSMP message apart.

    Raises:
        BadPacket: not TSMP, too short, a fragment, or of an unknown type.
    """
    header, body = _split_untrusted(packet)
    match body[:1]:
        case b"p" if len(body) >= 1 + PING_DATA_LEN:
            return Ping(header, body[1:9])
        case b"o" if len(body) >= 1 + PING_DATA_LEN:
            port = int.from_bytes(body[9:11], "big") if len(body) >= 11 else 0
            return Pong(header, body[1:9], port)
        case b"a" if len(body) >= 33:
            return DiscoKey(header, DiscoPublic(body[1:33]))
        case b"!":
            proto, reason, src_port, dst_port = _REJECTED.unpack_from(body, 1)
            broken = len(body) > MIN_LEN and bool(body[7] & 1)
            return Rejected(header, proto, chr(reason), src_port, dst_port, broken)
    msg = "unknown TSMP message"
    raise BadPacket(msg)


def encode_ping(src: IPAddress, dst: IPAddress, data: bytes) -> bytes:
    """An IP packet; ``data`` is 8 bytes."""
    return _packet(Header(src, dst), b"p" + data)


def encode_pong(ping: Ping, peerapi_port: int) -> bytes:
    """The IP packet that answers ``ping``."""
    src, dst, ip_id = ping.header
    back = Header(dst, src, ip_id ^ 0xFFFF)
    return _packet(back, b"o" + ping.data + peerapi_port.to_bytes(2, "big"))


def encode_disco_key(src: IPAddress, dst: IPAddress, key: DiscoPublic) -> bytes:
    """An IP packet that tells a peer our disco key."""
    return _packet(Header(src, dst), b"a" + key.raw)


def encode_rejected(flow: Flow, reason: Reason) -> bytes:
    """The IP packet that tells the source of ``flow`` why it is not let in."""
    size = len(flow.src)
    kind = IPv4Address if size == 4 else IPv6Address
    body = _REJECTED.pack(flow.proto, ord(reason), flow.src_port, flow.dst_port)
    return _packet(Header(kind(flow.dst), kind(flow.src)), b"!" + body)


def _split_untrusted(packet: bytes) -> tuple[Header, bytes]:
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        ihl, _, total, ip_id, fragment, _, proto, _, src4, dst4 = _V4.unpack_from(packet)
        header = Header(IPv4Address(src4), IPv4Address(dst4), ip_id)
        offset = (ihl & 0xF) * 4
        good = proto == PROTO and not fragment & _FRAGMENT and offset >= 20
    elif version == 6 and len(packet) >= 40:
        _, length, proto, _, src6, dst6 = _V6.unpack_from(packet)
        header = Header(IPv6Address(src6), IPv6Address(dst6))
        offset, total = 40, 40 + length
        good = proto == PROTO
    else:
        msg = "not an IP packet"
        raise BadPacket(msg)
    if not good or not offset + MIN_LEN <= total <= len(packet):
        msg = "not a TSMP packet"
        raise BadPacket(msg)
    return header, packet[offset:total]


def _packet(header: Header, body: bytes) -> bytes:
    src, dst, ip_id = header
    if src.version == 6:
        return _V6.pack(6 << 28, len(body), PROTO, HOPS, src.packed, dst.packed) + body
    fields = (0x45, 0, 20 + len(body), ip_id, 0, HOPS, PROTO)
    words = struct.unpack(">10H", _V4.pack(*fields, 0, src.packed, dst.packed))
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return _V4.pack(*fields, checksum, src.packed, dst.packed) + body
