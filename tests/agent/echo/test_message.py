"""Echo requests and replies as RFC 792 and RFC 4443 draw them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.echo.message import encode_request, reply_data_untrusted
from tailnet.agent.errors import BadPacket


def test_the_checksum_is_that_of_the_rfc() -> None:
    """A message that contains its checksum sums up to all ones."""
    message = encode_request(4, b"\x12\x34", b"\xff" * 16)
    words = [int.from_bytes(message[i : i + 2], "big") for i in range(0, len(message), 2)]
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
    assert message[:2] == b"\x08\0"


@given(st.binary(max_size=64), st.binary(min_size=2, max_size=2), st.sampled_from([0, 20, 24, 60]))
def test_a_reply_gives_its_data_back(data: bytes, identifier: bytes, header: int) -> None:
    """With and without the header that raw sockets of IPv4 show."""
    for version, kind in ((4, 0), (6, 129)):
        reply = bytes((kind,)) + encode_request(version, identifier, data)[1:]
        before = (
            bytes((0x40 | header // 4,)) + bytes(header - 1) if header and version == 4 else b""
        )
        assert reply_data_untrusted(version, before + reply) == data


@given(st.sampled_from([4, 6]), st.binary(max_size=80))
def test_noise_is_refused_or_a_reply(version: int, packet: bytes) -> None:
    """Only ``BadPacket`` leaves."""
    try:
        reply_data_untrusted(version, packet)
    except BadPacket:
        return


@pytest.mark.parametrize("version", [4, 6])
def test_a_request_is_no_reply(version: int) -> None:
    """Our own, which raw sockets on loopback see."""
    with pytest.raises(BadPacket):
        reply_data_untrusted(version, encode_request(version, b"ab", b"data"))
