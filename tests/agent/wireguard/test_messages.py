"""Layouts of messages."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors import wireguard_handshake as v

from tailnet.agent.errors import BadPacket
from tailnet.agent.wireguard.messages import (
    CookieReply,
    Initiation,
    Response,
    encode_cookie_reply,
    encode_initiation,
    encode_response,
    handshake_type_untrusted,
    parse_cookie_reply_untrusted,
    parse_initiation_untrusted,
    parse_response_untrusted,
)

INDEX = st.integers(0, 0xFFFFFFFF)
PARSERS = [parse_initiation_untrusted, parse_response_untrusted, parse_cookie_reply_untrusted]
MACS = bytes(32)


def exactly(size: int) -> st.SearchStrategy[bytes]:
    """Any bytes of this size."""
    return st.binary(min_size=size, max_size=size)


def test_layout_of_the_vectors() -> None:
    """Header fields sit where the paper puts them."""
    assert encode_initiation(Initiation(v.INITIATOR_INDEX, v.INITIATION[8:])) == v.INITIATION
    head = encode_response(Response(v.RESPONDER_INDEX, v.INITIATOR_INDEX, v.RESPONSE_HEAD[12:]))
    assert head[:44] == v.RESPONSE_HEAD


def test_cookie_reply_is_type_3() -> None:
    """The byte that one implementation got wrong."""
    data = encode_cookie_reply(CookieReply(0x04030201, b"n" * 24, b"s" * 32))
    assert data == b"\x03\0\0\0\x01\x02\x03\x04" + b"n" * 24 + b"s" * 32


@given(INDEX, INDEX, exactly(108), exactly(48), exactly(24), exactly(32), exactly(32))
def test_parsing_inverts_encoding(
    a: int, b: int, first: bytes, second: bytes, nonce: bytes, sealed: bytes, macs: bytes
) -> None:
    """Every message comes back; MACs do not matter here."""
    initiation, response = Initiation(a, first), Response(a, b, second)
    assert parse_initiation_untrusted(encode_initiation(initiation) + macs) == initiation
    assert parse_response_untrusted(encode_response(response) + macs) == response
    reply = CookieReply(a, nonce, sealed)
    assert parse_cookie_reply_untrusted(encode_cookie_reply(reply)) == reply


@pytest.mark.parametrize("parse", PARSERS)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda kind, rest: kind.to_bytes(4, "little") + rest,
            st.integers(0, 5),
            st.one_of(exactly(144), exactly(88), exactly(60), st.binary(max_size=150)),
        ),
    )
)
def test_garbage_is_bad_packet(parse: Callable[[bytes], object], data: bytes) -> None:
    """Nothing else escapes."""
    try:
        parse(data)
    except BadPacket:
        return
    assert len(data) in {148, 92, 64}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x07",
        b"\x01\0\0\0" + bytes(143),
        b"\x01\0\0\0" + bytes(145),
        b"\x01\0\0\x01" + bytes(144),  # the three bytes after the type are part of it
        b"\x04\0\0\0" + bytes(144),
        b"\x05\0\0\0" + bytes(88),  # handshakes of a fork
    ],
)
def test_other_types_and_lengths_are_refused(data: bytes) -> None:
    """Exact lengths and exact types only."""
    with pytest.raises(BadPacket):
        handshake_type_untrusted(data)
