"""What the filter believes of a packet."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.packets import ip, tcp, udp

from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.parse import (
    FRAGMENT,
    ICMP4,
    TCP,
    TSMP,
    UDP,
    UNKNOWN,
    parse_untrusted,
)

A, B = "100.64.0.1", "100.64.0.2"
A6, B6 = "fd7a::1", "fd7a::2"


def fragment6(proto: int, offset: int, payload: bytes, *, more: bool = False) -> bytes:
    """An IPv6 packet with a fragment header; ``offset`` in units of 8 bytes."""
    return ip(A6, B6, 44, struct.pack(">BBHI", proto, 0, offset << 3 | more, 1) + payload)


@pytest.mark.parametrize(("src", "dst"), [(A, B), (A6, B6)])
def test_ports_flags_and_lengths(src: str, dst: str) -> None:
    """TCP and UDP of both families."""
    packet = parse_untrusted(tcp(src, dst, b"x", sport=5, dport=6, flags=0x12))
    assert (packet.proto, packet.src_port, packet.dst_port, packet.flags) == (TCP, 5, 6, 0x12)
    packet = parse_untrusted(udp(src, dst, b"abc", sport=7, dport=8) + b"padding")
    assert (packet.proto, packet.src_port, packet.dst_port) == (UDP, 7, 8)
    assert packet.length == len(udp(src, dst, b"abc"))


@pytest.mark.parametrize("proto", [0, 255])
def test_internal_numbers_on_the_wire_are_unknown(proto: int) -> None:
    """Nobody can smuggle in a "fragment"."""
    assert parse_untrusted(ip(A, B, proto, bytes(20))).proto == UNKNOWN
    assert parse_untrusted(ip(A6, B6, proto, bytes(20))).proto == UNKNOWN


@pytest.mark.parametrize(("proto", "size"), [(6, 20), (17, 8), (132, 12), (1, 4), (2, 8), (99, 7)])
def test_a_transport_header_must_be_whole(proto: int, size: int) -> None:
    """One byte less is unknown."""
    assert parse_untrusted(ip(A, B, proto, bytes(size))).proto == proto
    assert parse_untrusted(ip(A, B, proto, bytes(size - 1))).proto == UNKNOWN


@pytest.mark.parametrize(("offset", "proto"), [(1, UNKNOWN), (9, UNKNOWN), (10, FRAGMENT)])
def test_later_fragments_pass_when_they_cannot_touch_a_header(offset: int, proto: int) -> None:
    """Both families."""
    assert parse_untrusted(ip(A, B, 17, bytes(40), flags=offset)).proto == proto
    assert parse_untrusted(fragment6(17, offset, bytes(40))).proto == proto


def test_a_first_fragment_is_parsed_unless_it_is_tsmp() -> None:
    """TSMP is never fragmented."""
    assert parse_untrusted(ip(A, B, 17, bytes(40), flags=0x2000)).proto == UDP
    assert parse_untrusted(fragment6(17, 0, bytes(40), more=True)).proto == UDP
    assert parse_untrusted(ip(A, B, 99, bytes(40), flags=0x2000)).proto == UNKNOWN
    assert parse_untrusted(ip(A, B, 99, bytes(40), flags=0x4000)).proto == TSMP


def test_icmp_gives_type_and_code() -> None:
    """In the fields of TCP's flags."""
    packet = parse_untrusted(ip(A, B, 1, bytes((3, 4)) + bytes(6)))
    assert (packet.proto, packet.flags, packet.code) == (ICMP4, 3, 4)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes(19),
        bytes(40),
        b"\x55" + bytes(40),
        tcp(A, B, b"abc")[:-1],
        tcp(A6, B6, b"abc")[:-1],
        b"\x44" + tcp(A, B)[1:],
        b"\x60" + bytes(30),
    ],
)
def test_lengths_that_do_not_fit_are_bad(packet: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(BadPacket):
        parse_untrusted(packet)


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda b: b"\x45\0\0\x14" + b)))
def test_garbage_raises_only_badpacket(packet: bytes) -> None:
    """And what parses lies inside of the packet."""
    try:
        parsed = parse_untrusted(packet)
    except BadPacket:
        return
    assert parsed.length <= len(packet)
