"""Queries in, answers out; dnslib, which is another's work, reads and writes the other side."""

import contextlib
from ipaddress import ip_address

import pytest
from dnslib import EDNS0, QTYPE, RR, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.dns.message import (
    FORMERR,
    HEADER,
    NOERROR,
    NXDOMAIN,
    QR,
    TC,
    A,
    address_record,
    addresses_untrusted,
    encode_name,
    formerr_untrusted,
    parse_question_untrusted,
    pointer_record,
    reply,
    soa_record,
    truncated,
)
from tailnet.agent.dns.names import Name
from tailnet.agent.errors import BadPacket

LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)
NAMES = st.lists(LABEL, min_size=1, max_size=8).map(lambda parts: Name(".".join(parts)))
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


def query(name: str, kind: str = "A", *, edns: int | None = None) -> bytes:
    """As a client would write it."""
    record = DNSRecord.question(name, kind)
    if edns is not None:
        record.add_ar(EDNS0(udp_len=edns))
    return bytes(record.pack())


@given(
    NAMES, st.sampled_from(["A", "AAAA", "PTR", "TXT", "ANY"]), st.none() | st.integers(0, 65535)
)
def test_a_query_of_another_program_is_understood(name: Name, kind: str, edns: int | None) -> None:
    """Name, type and EDNS size."""
    question = parse_question_untrusted(query(name.upper(), kind, edns=edns))
    assert question.name == name
    assert question.edns == edns
    assert 512 <= question.limit <= 4095


@given(NAMES, ADDRESSES, st.booleans())
def test_another_program_understands_the_answer(name: Name, ip: object, edns: bool) -> None:
    """With its question in the case it was asked in."""
    data = query(name.upper(), edns=1232 if edns else None)
    question = parse_question_untrusted(data)
    address = ip_address(str(ip))
    parsed = DNSRecord.parse(reply(question, NOERROR, [address_record(address)]))
    assert str(parsed.q.qname).rstrip(".") == name.upper()
    assert parsed.header.id == question.id
    assert ip_address(str(parsed.a.rdata)) == address
    assert len(parsed.ar) == (1 if edns else 0)
    assert parsed.header.aa
    assert parsed.header.ra == parsed.header.rd == 1


@given(NAMES, NAMES)
def test_pointers_and_authority_are_understood_too(name: Name, zone: Name) -> None:
    """PTR and SOA carry names of their own."""
    question = parse_question_untrusted(query(name, "PTR"))
    answer = reply(question, NXDOMAIN, [pointer_record(zone)], [soa_record(zone, 7)])
    parsed = DNSRecord.parse(answer)
    assert str(parsed.a.rdata).rstrip(".") == zone
    assert str(parsed.auth[0].rname).rstrip(".") == zone
    assert parsed.header.rcode == NXDOMAIN


@given(NAMES)
def test_names_go_there_and_back(name: Name) -> None:
    """Through the wire form."""
    data = HEADER.pack(1, 0, 1, 0, 0, 0) + encode_name(name) + b"\0\1\0\1"
    assert parse_question_untrusted(data).name == name


HOSTILE = {
    "no header": b"\0" * 11,
    "a response": HEADER.pack(1, QR, 1, 0, 0, 0) + b"\1a\0\0\1\0\1",
    "no question": HEADER.pack(1, 0, 0, 0, 0, 0),
    "a compression pointer to itself": HEADER.pack(1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
    "a label that ends after the packet": HEADER.pack(1, 0, 1, 0, 0, 0) + b"\x3fabc",
    "a name without end": HEADER.pack(1, 0, 1, 0, 0, 0) + b"\1a" * 200,
    "no type": HEADER.pack(1, 0, 1, 0, 0, 0) + b"\1a\0\0\1",
    "a dot inside a label": HEADER.pack(1, 0, 1, 0, 0, 0) + b"\3a.b\0\0\1\0\1",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_query_is_refused(data: bytes) -> None:
    """One by one."""
    with pytest.raises(BadPacket):
        parse_question_untrusted(data)


@given(st.binary(max_size=600))
def test_noise_is_refused_or_understood(data: bytes) -> None:
    """And an error is sent to nobody who sent a response: two servers would never stop."""
    try:
        assert parse_question_untrusted(data).qtype <= 0xFFFF
    except BadPacket:
        error = formerr_untrusted(data)
        if error:
            assert len(error) <= len(data)
            assert DNSRecord.parse(error).header.rcode == FORMERR
        else:
            assert len(data) < HEADER.size or data[2] & 0x80


def test_a_long_answer_is_marked_and_not_cut() -> None:
    """Upstream does so, and clients ask again by TCP."""
    question = parse_question_untrusted(query("a.b"))
    long = reply(question, NOERROR, [address_record(ip_address("10.0.0.1"))] * 40)
    marked = truncated(long, question.limit)
    assert len(marked) == len(long)
    assert int.from_bytes(marked[2:4]) & TC
    assert truncated(long, len(long)) == long


def test_types_are_those_of_the_registry() -> None:
    """Against dnslib's table."""
    assert QTYPE.reverse["A"] == A


def test_addresses_are_found_at_the_end_of_aliases() -> None:
    """IPv4 first; other records are passed over."""
    reply = DNSRecord.question("www.example").reply()
    for line in (
        "www.example 5 CNAME a.example",
        "a.example 5 AAAA ::7",
        "a.example 5 A 192.0.2.7",
    ):
        reply.add_answer(*RR.fromZone(line))
    found = addresses_untrusted(bytes(reply.pack()))
    assert [str(ip) for ip in found] == ["192.0.2.7", "::7"]


@given(st.binary(max_size=200))
def test_addresses_of_noise_are_none_or_refused(data: bytes) -> None:
    """It never goes in a circle: a pointer ends a name."""
    with contextlib.suppress(BadPacket):
        addresses_untrusted(b"\0\0\x81\x80\0\1\0\3\0\0\0\0" + data)
