"""TSMP messages."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import IPAddress
from tailnet.agent.datapath.tsmp import (
    DiscoKey,
    Header,
    Ping,
    Pong,
    Rejected,
    encode_disco_key,
    encode_ping,
    encode_pong,
    parse_untrusted,
)
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import DiscoPublic

A4, B4 = ipaddress.ip_address("100.64.0.1"), ipaddress.ip_address("100.64.0.2")
A6, B6 = ipaddress.ip_address("fd7a:115c:a1e0::1"), ipaddress.ip_address("fd7a:115c:a1e0::2")
DATA = b"12345678"

addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)


def packet(body: bytes, *, proto: int = 99, flags: int = 0, total: int | None = None) -> bytes:
    """An IPv4 packet from A to B; its checksum is not looked at."""
    length = 20 + len(body) if total is None else total
    head = struct.pack(">BBHHHBBH", 0x45, 0, length, 0x1234, flags, 64, proto, 0)
    return head + A4.packed + B4.packed + body


def test_ping_layout_v4() -> None:
    """Header without options or flags, TTL 64, protocol 99, a right checksum."""
    data = encode_ping(A4, B4, DATA)
    assert data.hex() == "4500001d000000004063b1fb" + "64400001" + "64400002" + "70" + DATA.hex()
    total = sum(struct.unpack(">10H", data[:20]))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_ping_layout_v6() -> None:
    """Hop limit 64, next header 99."""
    data = encode_ping(A6, B6, DATA)
    assert data[:8].hex() == "6000000000096340"
    assert data[8:40] == A6.packed + B6.packed
    assert data[40:] == b"p" + DATA


@given(addresses, st.binary(min_size=8, max_size=8), st.integers(0, 0xFFFF))
def test_pong_goes_back_with_the_same_data(
    ends: tuple[IPAddress, IPAddress], data: bytes, port: int
) -> None:
    """Addresses swapped, data as it was, and the port."""
    src, dst = ends
    ping = parse_untrusted(encode_ping(src, dst, data))
    assert isinstance(ping, Ping)
    pong = parse_untrusted(encode_pong(ping, port))
    ip_id = 0xFFFF if src.version == 4 else 0
    assert pong == Pong(Header(dst, src, ip_id), data, port)


def test_pong_inverts_the_ip_id() -> None:
    """So that it can be told from its request."""
    ping = parse_untrusted(packet(b"p" + DATA))
    assert isinstance(ping, Ping)
    assert encode_pong(ping, 0)[4:6].hex() == "edcb"


def test_pong_without_port_is_accepted() -> None:
    """Old nodes leave it out."""
    assert parse_untrusted(packet(b"o" + DATA)) == Pong(Header(A4, B4, 0x1234), DATA, 0)


@given(addresses, st.binary(min_size=32, max_size=32))
def test_disco_key_round_trip(ends: tuple[IPAddress, IPAddress], raw: bytes) -> None:
    """The key comes out as it went in."""
    key = DiscoPublic(raw)
    assert parse_untrusted(encode_disco_key(*ends, key)) == DiscoKey(Header(*ends), key)


def test_longer_messages_are_accepted() -> None:
    """What newer nodes append is ignored."""
    assert isinstance(parse_untrusted(packet(b"a" + bytes(40))), DiscoKey)
    assert parse_untrusted(packet(b"p" + DATA + b"more")) == Ping(Header(A4, B4, 0x1234), DATA)


def test_rejected() -> None:
    """With and without flags."""
    body = b"!\x06A" + struct.pack(">HH", 50000, 22)
    want = Rejected(Header(A4, B4, 0x1234), 6, "A", 50000, 22, maybe_broken=False)
    assert parse_untrusted(packet(body)) == want
    assert parse_untrusted(packet(body + b"\x01")) == want._replace(maybe_broken=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        packet(b"p12345"),  # shorter than 7 bytes of payload
        packet(b"p123456"),  # shorter than a ping
        packet(b"p" + DATA, proto=17),
        packet(b"p" + DATA, flags=0x2000),  # more fragments
        packet(b"p" + DATA, flags=1),  # a later fragment
        packet(b"p" + DATA, total=30),  # longer than the packet
        packet(b"a" + bytes(31)),
        packet(b"?" + bytes(40)),
        b"\x65" + bytes(60),
        b"\x41" + packet(b"p" + DATA)[1:],  # header of four bytes
    ],
)
def test_what_is_not_tsmp_is_refused(data: bytes) -> None:
    """Other protocols, fragments and short messages."""
    with pytest.raises(BadPacket):
        parse_untrusted(data)


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=60).map(packet)))
def test_garbage_is_bad_packet(data: bytes) -> None:
    """Nothing else escapes."""
    try:
        parse_untrusted(data)
    except BadPacket:
        return
    assert data[0] >> 4 in {4, 6}
