"""NAT-PMP's bytes."""

from ipaddress import IPv4Address
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.errors import BadPacket
from tailnet.agent.portmap.natpmp import (
    EXTERNAL_REQUEST,
    External,
    Mapped,
    Refused,
    map_request,
    parse_untrusted,
)


def test_requests_are_as_in_rfc_6886() -> None:
    """Sections 3.2 and 3.3."""
    assert bytes.fromhex("0000") == EXTERNAL_REQUEST
    assert map_request(41641, 1234, 7200) == bytes.fromhex("0001 0000 a2a9 04d2 00001c20")


def test_answers_are_as_in_rfc_6886() -> None:
    """Both kinds; without an address outside there is none."""
    external = bytes.fromhex("0080 0000 00000005 0b630001")
    assert parse_untrusted(external) == External(5, IPv4Address("11.99.0.1"))
    assert parse_untrusted(external[:8] + bytes(4)) == External(5, None)
    mapped = bytes.fromhex("0081 0000 00000005 a2a9 04d2 00001c20")
    assert parse_untrusted(mapped) == Mapped(5, 41641, 1234, 7200)


@given(st.integers(1, 0xFFFF), st.sampled_from([0x80, 0x81]), st.binary(max_size=12))
def test_refusals_are_known_whatever_follows(result: int, op: int, rest: bytes) -> None:
    """Some routers send no more than the head."""
    assert parse_untrusted(pack("!BBHI", 0, op, result, 9) + rest) == Refused(result)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0080",
        "0080 0000 00000005",
        "0080 0000 00000005 0b6300",
        "0081 0000 00000005 a2a9 04d2 00001c",
        "0081 0000 00000005 a2a9 04d2 00001c20 00",
        "0080 0000 00000005 0b630001 00",
        "0082 0000 00000005 a2a9 04d2 00001c20",
        "0001 0000 00000005 a2a9 04d2 00001c20",
        "0180 0000 00000005 0b630001",
    ],
)
def test_anything_else_is_bad(text: str) -> None:
    """Lengths, versions, requests, TCP."""
    with pytest.raises(BadPacket):
        parse_untrusted(bytes.fromhex(text))
