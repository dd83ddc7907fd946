"""GOAWAY frames are found wherever they are, and nothing else is touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.errors import BadPacket
from tailnet.agent.http2.goodbye import GOAWAY, MAX_GOAWAY, Goodbye, Goodbyes


def frame(kind: int, body: bytes, stream: int = 0) -> bytes:
    """One HTTP/2 frame without flags."""
    return len(body).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + body


def goaway(last: int, error: int = 0, debug: bytes = b"") -> bytes:
    """One GOAWAY."""
    return frame(GOAWAY, last.to_bytes(4, "big") + error.to_bytes(4, "big") + debug)


OTHER = st.builds(
    frame, st.sampled_from([0, 1, 4, 6, 8]), st.binary(max_size=40), st.integers(0, 9)
)
LEAVING = st.builds(goaway, st.integers(0, 2**31 - 1), st.integers(0, 13), st.binary(max_size=9))


@given(st.binary(max_size=30), st.lists(st.one_of(OTHER, LEAVING), max_size=8), st.data())
def test_any_chunking_finds_the_same(
    preface: bytes, frames: list[bytes], data: st.DataObject
) -> None:
    """What passes is the stream without its GOAWAY frames."""
    stream = preface + b"".join(frames)
    machine = Goodbyes(skip=len(preface))
    passed, found, at = b"", [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        out, goodbyes = machine.split_untrusted(stream[at : at + size])
        passed += out
        found += goodbyes
        at += size
    left = [f for f in frames if f[3] == GOAWAY]
    assert passed == preface + b"".join(f for f in frames if f[3] != GOAWAY)
    assert found == [
        Goodbye(int.from_bytes(f[9:13], "big"), int.from_bytes(f[13:17], "big")) for f in left
    ]


@pytest.mark.parametrize(
    "data",
    [
        frame(GOAWAY, bytes(7)),
        frame(GOAWAY, bytes(8), stream=1),
        frame(GOAWAY, bytes(MAX_GOAWAY + 1)),
    ],
)
def test_a_goaway_that_is_none_is_refused(data: bytes) -> None:
    """Too short, too long, or of a stream."""
    with pytest.raises(BadPacket):
        Goodbyes(skip=0).split_untrusted(data)


@given(st.binary(max_size=200))
def test_noise_passes_waits_or_is_refused(data: bytes) -> None:
    """Only ``BadPacket`` leaves."""
    try:
        out, _ = Goodbyes(skip=0).split_untrusted(data)
    except BadPacket:
        return
    assert data.startswith(out) or GOAWAY in data
