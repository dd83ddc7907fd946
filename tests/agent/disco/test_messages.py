"""Disco messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.disco.messages import (
    CallMeMaybe,
    Message,
    Ping,
    Pong,
    encode,
    parse_untrusted,
)
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePublic

TXID = bytes(range(1, 13))
KEY = NodePublic(bytes(range(1, 33)))
A = AddrPort.parse("1.2.3.4:567")
B = AddrPort.parse("[2001::3456]:789")

# From tailscale disco/disco_test.go.
VECTORS: list[tuple[Message, str]] = [
    (Ping(TXID, None), "01000102030405060708090a0b0c"),
    (Ping(TXID, None, 3), "01000102030405060708090a0b0c000000"),
    (Ping(TXID, KEY), "01000102030405060708090a0b0c" + KEY.raw.hex()),
    (Ping(TXID, KEY, 3), "01000102030405060708090a0b0c" + KEY.raw.hex() + "000000"),
    (
        Pong(TXID, AddrPort.parse("2.3.4.5:1234")),
        "02000102030405060708090a0b0c00000000000000000000ffff0203040504d2",
    ),
    (
        Pong(TXID, AddrPort.parse("[fed0::12]:6666")),
        "02000102030405060708090a0b0cfed000000000000000000000000000121a0a",
    ),
    (CallMeMaybe(()), "0300"),
    (
        CallMeMaybe((A, B)),
        "030000000000000000000000ffff010203040237200100000000000000000000000034560315",
    ),
]


@pytest.mark.parametrize(("message", "wire"), VECTORS)
def test_vectors(message: Message, wire: str) -> None:
    """Upstream's own test vectors, both ways."""
    assert encode(message).hex() == wire
    assert parse_untrusted(bytes.fromhex(wire)) == message


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ("0107" + TXID.hex(), Ping(TXID, None)),
        ("0100" + TXID.hex() + "00" * 31, Ping(TXID, None, 31)),
        ("0100" + TXID.hex() + "00" * 40, Ping(TXID, None, 8)),
        (VECTORS[4][1] + "ffff", VECTORS[4][0]),
        ("0209" + VECTORS[4][1][4:], VECTORS[4][0]),
        ("0301" + VECTORS[7][1][4:], CallMeMaybe(())),
        (VECTORS[7][1] + "00", CallMeMaybe(())),
        (VECTORS[7][1][:-2], CallMeMaybe(())),
        ("ff00", None),
    ],
    ids=[
        "ping of another version",
        "ping with less than a key",
        "zero key is no key",
        "pong with trailing bytes",
        "pong of another version",
        "call-me-maybe of another version",
        "call-me-maybe with a byte too much",
        "call-me-maybe with a byte too few",
        "unknown type",
    ],
)
def test_parser_is_lax_where_newer_nodes_may_differ(wire: str, message: Message | None) -> None:
    """What the future may send is understood as far as it goes."""
    assert parse_untrusted(bytes.fromhex(wire)) == message


@pytest.mark.parametrize("wire", ["", "01", "0100" + TXID[:11].hex(), VECTORS[4][1][:-2]])
def test_cut_messages_are_bad(wire: str) -> None:
    """A Ping needs its transaction id, a Pong its address too."""
    with pytest.raises(BadPacket):
        parse_untrusted(bytes.fromhex(wire))


addresses = st.builds(
    lambda ip, port: AddrPort.of(str(ip), port), st.ip_addresses(), st.integers(0, 0xFFFF)
)
txids = st.binary(min_size=12, max_size=12)
keys = st.binary(min_size=32, max_size=32).filter(any).map(NodePublic)


@given(
    st.one_of(
        st.builds(Ping, txids, keys, st.integers(0, 1500)),
        st.builds(Pong, txids, addresses),
        st.builds(CallMeMaybe, st.lists(addresses, max_size=20).map(tuple)),
    )
)
def test_parse_inverts_encode(message: Message) -> None:
    """Any message survives the wire."""
    assert parse_untrusted(encode(message)) == message


@given(st.binary(max_size=100))
def test_garbage_is_a_bad_packet(data: bytes) -> None:
    """Only BadPacket leaves the parser."""
    try:
        parse_untrusted(data)
    except BadPacket:
        return
