"""PCP's bytes."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.errors import BadPacket
from tailnet.agent.portmap.pcp import (
    Announced,
    Mapped,
    Refused,
    announce_request,
    map_request,
    parse_untrusted,
)

OWN = IPv4Address("192.168.7.2")
NONCE = bytes(range(12))
HEAD = "02 81 00 00 00000e10 00000009" + "00" * 12


def answer(ip: str, *, result: int = 0, protocol: int = 17, nonce: bytes = NONCE) -> bytes:
    """What a gateway says to a MAP request."""
    packed = IPv6Address(ip).packed
    head = bytes.fromhex(HEAD)
    body = nonce + bytes([protocol, 0, 0, 0]) + bytes.fromhex("a2a9 04d2") + packed
    return head[:3] + bytes([result]) + head[4:] + body


def test_requests_are_as_in_rfc_6887() -> None:
    """Sections 7.1, 11.1 and 14.1: 24 and 60 bytes."""
    own = "00000000000000000000ffffc0a80702"
    assert announce_request(OWN) == bytes.fromhex("0200 0000 00000000" + own)
    assert map_request(OWN, NONCE, 41641, 1234, 7200) == bytes.fromhex(
        "0201 0000 00001c20"
        + own
        + NONCE.hex()
        + "11 000000 a2a9 04d2"
        + "00000000000000000000ffff00000000"
    )


def test_answers_are_as_in_rfc_6887() -> None:
    """The outer address is IPv4 or IPv6."""
    announced = bytes.fromhex(HEAD.replace("0281", "0280").replace("02 81", "02 80"))
    assert parse_untrusted(announced) == Announced(9)
    assert parse_untrusted(answer("::ffff:11.99.0.1")) == Mapped(
        9, NONCE, 41641, 1234, IPv4Address("11.99.0.1"), 3600
    )
    found = parse_untrusted(answer("2001:db8::1"))
    assert isinstance(found, Mapped)
    assert found.ip == IPv6Address("2001:db8::1")


@given(st.integers(1, 255), st.integers(0, 36))
def test_refusals_are_known_whatever_follows(result: int, cut: int) -> None:
    """The head is enough."""
    data = answer("::ffff:0.0.0.0", result=result)
    assert parse_untrusted(data[: len(data) - cut]) == Refused(result)


@pytest.mark.parametrize("cut", range(1, 61))
def test_short_answers_are_bad(cut: int) -> None:
    """Cut anywhere."""
    with pytest.raises(BadPacket):
        parse_untrusted(answer("::ffff:11.99.0.1")[:-cut])


def test_other_answers_are_bad() -> None:
    """TCP, requests, PEER, other versions."""
    good = answer("::ffff:11.99.0.1")
    for data in (
        answer("::1", protocol=6),
        b"\1" + good[1:],
        b"\2\1" + good[2:],
        b"\2\x82" + good[2:],
    ):
        with pytest.raises(BadPacket):
            parse_untrusted(data)
