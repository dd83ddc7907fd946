"""The wrapping of what goes through a peer relay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.disco.geneve import (
    HEADER_LEN,
    MAX_VNI,
    Header,
    Protocol,
    encode,
    parse_untrusted,
)
from tailnet.agent.errors import BadPacket

HEADERS = st.builds(
    Header, st.sampled_from(Protocol), st.integers(0, MAX_VNI), control=st.booleans()
)


@given(HEADERS, st.binary(max_size=9))
def test_a_header_comes_back(header: Header, payload: bytes) -> None:
    """Whatever follows it."""
    wire = encode(header)
    assert len(wire) == HEADER_LEN
    assert parse_untrusted(wire + payload) == header


def test_the_bytes_are_those_of_the_drawing() -> None:
    """Control, disco, number 0x010203."""
    header = Header(Protocol.DISCO, 0x010203, control=True)
    assert encode(header) == bytes.fromhex("00807a1101020300")


@pytest.mark.parametrize(
    "wire", ["", "00007a11010203", "01007a1101020300", "00407a1101020300", "00007a1301020300"]
)
def test_options_other_protocols_and_cut_headers_are_refused(wire: str) -> None:
    """They are not from a relay of ours."""
    with pytest.raises(BadPacket):
        parse_untrusted(bytes.fromhex(wire))


@given(st.binary(max_size=16))
def test_what_parses_is_what_would_be_written(wire: bytes) -> None:
    """No two forms of one header."""
    try:
        header = parse_untrusted(wire)
    except BadPacket:
        return
    assert encode(header) == wire[:HEADER_LEN]
