"""STUN binding messages."""

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.stun.messages import (
    COOKIE,
    encode_request,
    encode_response,
    looks_like_stun,
    parse_request_untrusted,
    parse_response_untrusted,
)

TXID = bytes(range(12))
# Layouts of tailscale net/stun/stun.go, computed by hand from RFC 8489.
REQUEST = bytes.fromhex(
    "000100142112a442000102030405060708090a0b802200087461696c6e6f6465802800048aabad90"
)
RESPONSE = bytes.fromhex("0101000c2112a442000102030405060708090a0b00200008000183bbe112a663")
MAPPED = AddrPort.parse("192.0.2.33:41641")


def response(attributes: bytes) -> bytes:
    """A binding response with these attributes."""
    return b"\x01\x01" + len(attributes).to_bytes(2, "big") + COOKIE + TXID + attributes


def with_fingerprint(attributes: bytes) -> bytes:
    """A binding request with these attributes and a good fingerprint."""
    head = b"\x00\x01" + (len(attributes) + 8).to_bytes(2, "big") + COOKIE + TXID + attributes
    return head + b"\x80\x28\x00\x04" + (crc32(head) ^ 0x5354554E).to_bytes(4, "big")


def test_request_vector() -> None:
    """A request is the known 40 bytes, and parses back."""
    assert encode_request(TXID) == REQUEST
    assert parse_request_untrusted(REQUEST) == TXID


def test_response_vector() -> None:
    """A response is the known 32 bytes, and parses back."""
    assert encode_response(TXID, MAPPED) == RESPONSE
    assert parse_response_untrusted(RESPONSE) == (TXID, MAPPED)


def test_ipv6_response_has_44_bytes() -> None:
    """IPv6 addresses are masked with cookie and transaction id."""
    mapped = AddrPort.parse("[2001:db8::1]:3478")
    data = encode_response(TXID, mapped)
    assert len(data) == 44
    assert parse_response_untrusted(data) == (TXID, mapped)


def test_mapped_ipv6_is_unmapped_in_both_directions() -> None:
    """A dual-stack server reports the IPv4 form, and a sloppy one is corrected."""
    mapped = AddrPort(AddrPort.parse("[::1]:1").ip.__class__("::ffff:192.0.2.33"), 41641)
    assert encode_response(TXID, mapped) == RESPONSE
    value = b"\x00\x02" + (41641).to_bytes(2, "big") + mapped.ip.packed
    assert parse_response_untrusted(response(b"\x00\x01\x00\x14" + value)) == (TXID, MAPPED)


def test_draft_attribute_number_is_accepted() -> None:
    """0x8020 is XOR-MAPPED-ADDRESS too."""
    assert parse_response_untrusted(response(b"\x80\x20" + RESPONSE[22:]))[1] == MAPPED


def test_plain_mapped_address_is_the_last_resort() -> None:
    """MAPPED-ADDRESS counts only without a masked one, in whichever order they come."""
    plain = b"\x00\x01\x00\x08\x00\x01\x00\x07\x01\x02\x03\x04"
    assert parse_response_untrusted(response(plain))[1] == AddrPort.parse("1.2.3.4:7")
    assert parse_response_untrusted(response(plain + RESPONSE[20:]))[1] == MAPPED


def test_unknown_attributes_are_skipped_with_their_padding() -> None:
    """An attribute of 5 bytes takes 8."""
    unknown = b"\x80\x22\x00\x05hello\x00\x00\x00"
    assert parse_response_untrusted(response(unknown + RESPONSE[20:]))[1] == MAPPED


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x00\x00" + COOKIE + TXID,  # a plain RFC 5389 request
        REQUEST[:-1] + b"\x00",  # damaged fingerprint
        with_fingerprint(b"\x80\x22\x00\x08someones"),
    ],
)
def test_servers_answer_only_our_own_clients(data: bytes) -> None:
    """SOFTWARE and FINGERPRINT are mandatory, and nothing else is asked."""
    assert parse_request_untrusted(with_fingerprint(b"\x80\x22\x00\x08tailnode")) == TXID
    with pytest.raises(BadPacket):
        parse_request_untrusted(data)


def test_fingerprint_must_be_the_last_attribute() -> None:
    """Bytes behind the fingerprint would not be covered by it."""
    longer = REQUEST[:2] + b"\x00\x18" + REQUEST[4:] + b"\x80\x23\x00\x00"
    with pytest.raises(BadPacket):
        parse_request_untrusted(longer)


def test_every_cut_is_a_bad_packet() -> None:
    """No prefix of a message parses."""
    for n in range(len(RESPONSE)):
        with pytest.raises(BadPacket):
            parse_response_untrusted(RESPONSE[:n])
    for n in range(len(REQUEST)):
        with pytest.raises(BadPacket):
            parse_request_untrusted(REQUEST[:n])


def test_wireguard_and_disco_do_not_look_like_stun() -> None:
    """The demultiplexer's test cannot take another protocol's datagram."""
    assert looks_like_stun(RESPONSE)
    assert looks_like_stun(REQUEST)
    assert not looks_like_stun(b"\x01\x00\x00\x00" + COOKIE + bytes(140))
    assert not looks_like_stun("TS💬".encode() + bytes(100))


@given(st.binary(min_size=12, max_size=12), st.ip_addresses(), st.integers(0, 0xFFFF))
def test_response_decode_inverts_encode(txid: bytes, ip: object, port: int) -> None:
    """Any address and transaction id survive."""
    mapped = AddrPort.of(str(ip), port)
    assert parse_response_untrusted(encode_response(txid, mapped)) == (txid, mapped)


@given(st.binary(max_size=80), st.sampled_from([b"", REQUEST[:20], RESPONSE[:20]]))
def test_garbage_is_a_bad_packet(tail: bytes, head: bytes) -> None:
    """Only BadPacket leaves the parsers."""
    data = head[:2] + len(tail).to_bytes(2, "big") + head[4:] + tail if head else tail
    for parse in (parse_request_untrusted, parse_response_untrusted):
        try:
            parse(data)
        except BadPacket:
            continue
