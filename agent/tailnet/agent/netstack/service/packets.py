"""Answers to packets of the operating system, without a stack: UDP, ping, and a refusal of TCP.

Source: RFC 768, RFC 792, RFC 4443 §4, RFC 9293 §3.10.7.1.
"""

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.datapath.reference import vnet
from tailnet.agent.datapath.reference.checksum import complement, pseudo_sum, word_sum
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.parse import (
    ACK,
    ICMP4,
    ICMP6,
    RST,
    SYN,
    TCP,
    UDP,
    Parsed,
    parse_untrusted,
)

_ECHO = {ICMP4: (8, 0), ICMP6: (128, 129)}  # request, reply
_TTL = 64
_CHECKSUM = {UDP: 6, TCP: 16, ICMP4: 2, ICMP6: 2}  # offset in the transport header


class Datagram(NamedTuple):
    """One that came: to ``local`` from ``remote``."""

    local: AddrPort
    remote: AddrPort
    data: bytes


def take_untrusted(read: bytes) -> Datagram | bytes | None:
    """What a packet wants, behind a virtio-net header: a datagram, an answer, or nothing.

    Raises:
        BadPacket: it is damaged.
    """
    data = read[vnet.LEN :]
    packet = parse_untrusted(data)
    body = data[packet.payload : packet.length]
    if packet.proto == UDP:
        size = int.from_bytes(body[4:6], "big")
        if not 8 <= size <= len(body):
            msg = "a datagram of impossible length"
            raise BadPacket(msg)
        local, remote = AddrPort(_ip(packet.dst), packet.dst_port), _remote(packet)
        return Datagram(local, remote, body[8:size])
    if packet.proto in _ECHO and packet.flags == _ECHO[packet.proto][0] and not packet.code:
        reply = bytes((_ECHO[packet.proto][1],)) + body[1:]
        return _build(packet.dst, packet.src, packet.proto, reply)
    if packet.proto == TCP and not packet.flags & RST:
        return _refusal(packet, body)
    return None


def datagram(local: AddrPort, remote: AddrPort, data: bytes) -> bytes:
    """One that leaves, behind a virtio-net header."""
    head = struct.pack(">HHHH", local.port, remote.port, 8 + len(data), 0)
    return _build(local.ip.packed, remote.ip.packed, UDP, head + data)


def _refusal(packet: Parsed, body: bytes) -> bytes:
    (seq, ack, offset) = struct.unpack_from(">IIB", body, 4)
    if packet.flags & ACK:
        seq, ack, flags = ack, 0, RST
    else:
        length = len(body) - (offset >> 4) * 4 + bool(packet.flags & SYN)
        seq, ack, flags = 0, (seq + length) & 0xFFFFFFFF, RST | ACK
    head = (packet.dst_port, packet.src_port, seq, ack, 0x50, flags, 0, 0, 0)
    return _build(packet.dst, packet.src, TCP, struct.pack(">HHIIBBHHH", *head))


def _build(src: bytes, dst: bytes, proto: int, body: bytes) -> bytes:
    """A packet with its checksums, behind a virtio-net header that asks for nothing."""
    at = _CHECKSUM[proto]
    body = body[:at] + b"\0\0" + body[at + 2 :]
    pseudo = 0 if proto == ICMP4 else pseudo_sum(src, dst, proto, len(body))
    total = complement(word_sum(body) + pseudo) or (0xFFFF if proto == UDP else 0)
    body = body[:at] + total.to_bytes(2, "big") + body[at + 2 :]
    if len(src) == 16:
        head = struct.pack(">IHBB", 6 << 28, len(body), proto, _TTL) + src + dst
    else:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, _TTL, proto, 0)
        check = complement(word_sum(head + src + dst)).to_bytes(2, "big")
        head = head[:10] + check + src + dst
    return vnet.PLAIN + head + body


def _ip(packed: bytes) -> IPAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _remote(packet: Parsed) -> AddrPort:
    return AddrPort(_ip(packet.src), packet.src_port)
