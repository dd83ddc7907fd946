"""IP packets for tests, made and checked the slow and obvious way."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address


def naive_sum(data: bytes) -> int:
    """Ones-complement sum of 16-bit words, word by word."""
    if len(data) % 2:
        data += b"\0"
    total = 0
    for (word,) in struct.iter_unpack(">H", data):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def naive_checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071."""
    return naive_sum(data) ^ 0xFFFF


def pseudo(src: Address, dst: Address, proto: int, length: int) -> bytes:
    """Pseudo header of IPv4 or IPv6."""
    if src.version == 4:
        return src.packed + dst.packed + struct.pack(">BBH", 0, proto, length)
    return src.packed + dst.packed + struct.pack(">I3xB", length, proto)


def ip(
    src: str,
    dst: str,
    proto: int,
    payload: bytes,
    *,
    ident: int = 7,
    flags: int = 0x4000,
    tos: int = 0,
    ttl: int = 64,
) -> bytes:
    """An IP header in front of ``payload``; ``flags`` is IPv4's flags and fragment offset."""
    a, b = ip_address(src), ip_address(dst)
    if a.version == 6:
        word = 6 << 28 | tos << 20
        return struct.pack(">IHBB", word, len(payload), proto, ttl) + a.packed + b.packed + payload
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x45, tos, 20 + len(payload), ident, flags, ttl, proto, 0, a.packed, b.packed,
    )  # fmt: skip
    check = struct.pack(">H", naive_checksum(head))
    return head[:10] + check + head[12:] + payload


def tcp(
    src: str,
    dst: str,
    payload: bytes = b"",
    *,
    sport: int = 1000,
    dport: int = 80,
    seq: int = 1,
    ack: int = 1,
    flags: int = 0x10,
    window: int = 500,
    options: bytes = b"",
    ident: int = 7,
    tos: int = 0,
) -> bytes:
    """A TCP segment with right checksums; ``options`` is a multiple of four bytes."""
    offset = (20 + len(options)) // 4 << 4
    head = struct.pack(">HHIIBBHHH", sport, dport, seq, ack, offset, flags, window, 0, 0)
    body = head + options + payload
    a, b = ip_address(src), ip_address(dst)
    check = struct.pack(">H", naive_checksum(pseudo(a, b, 6, len(body)) + body))
    return ip(src, dst, 6, body[:16] + check + body[18:], ident=ident, tos=tos)


def udp(
    src: str, dst: str, payload: bytes = b"", *, sport: int = 1000, dport: int = 53, ident: int = 7
) -> bytes:
    """A UDP datagram with right checksums."""
    body = struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload
    a, b = ip_address(src), ip_address(dst)
    check = naive_checksum(pseudo(a, b, 17, len(body)) + body) or 0xFFFF
    return ip(src, dst, 17, body[:6] + struct.pack(">H", check) + body[8:], ident=ident)


def icmp(src: str, dst: str, payload: bytes = b"", *, kind: int = 8, code: int = 0) -> bytes:
    """An ICMP message, or ICMPv6's, with a right checksum; ``payload`` follows it."""
    a, b = ip_address(src), ip_address(dst)
    proto = 1 if a.version == 4 else 58
    body = bytes([kind, code, 0, 0]) + payload
    front = b"" if a.version == 4 else pseudo(a, b, proto, len(body))
    check = struct.pack(">H", naive_checksum(front + body))
    return ip(src, dst, proto, body[:2] + check + body[4:])


def summed(packet: bytes) -> bytes:
    """With right checksums, as far as it is IP without options that carries TCP, UDP or ICMP."""
    if len(packet) >= 20 and packet[0] == 0x45:
        head = packet[:10] + bytes(2) + packet[12:20]
        head = head[:10] + struct.pack(">H", naive_checksum(head)) + head[12:]
        a: Address = IPv4Address(packet[12:16])
        b: Address = IPv4Address(packet[16:20])
        proto, body = packet[9], packet[20:]
    elif len(packet) >= 40 and packet[0] >> 4 == 6:
        head = packet[:40]
        a, b = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
        proto, body = packet[6], packet[40:]
    else:
        return packet
    at = {1: 2, 6: 16, 17: 6, 58: 2}.get(proto, len(body))
    if at + 2 > len(body):
        return head + body
    body = body[:at] + bytes(2) + body[at + 2 :]
    front = b"" if proto == 1 else pseudo(a, b, proto, len(body))
    return head + body[:at] + struct.pack(">H", naive_checksum(front + body)) + body[at + 2 :]


def checksums_hold(packet: bytes) -> bool:
    """True if the IPv4 header's and the TCP or UDP checksum are right."""
    if packet[0] >> 4 == 4:
        if naive_sum(packet[:20]) != 0xFFFF:
            return False
        a: Address = IPv4Address(packet[12:16])
        b: Address = IPv4Address(packet[16:20])
        proto, body = packet[9], packet[20:]
    else:
        a, b = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
        proto, body = packet[6], packet[40:]
    return naive_sum(pseudo(a, b, proto, len(body)) + body) == 0xFFFF
