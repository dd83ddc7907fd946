"""Messages with their length in front."""

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.errors import BadPacket
from tailnet.agent.netstack.service.framing import Framer, frame
from tailnet.agent.netstack.service.interface import MAX_TCP_QUERY


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=5),
    st.lists(st.integers(0, 1500), max_size=8),
)
def test_messages_come_out_however_the_stream_is_cut(
    messages: list[bytes], cuts: list[int]
) -> None:
    """In order, whole."""
    stream = b"".join(frame(message) for message in messages)
    framer = Framer()
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parts = [stream[a:b] for a, b in pairwise(edges)]
    assert [m for part in parts for m in framer.feed_untrusted(part)] == messages


@pytest.mark.parametrize("size", [0, MAX_TCP_QUERY + 1, 0xFFFF])
def test_impossible_lengths_end_the_connection(size: int) -> None:
    """Before anything of that length is kept."""
    with pytest.raises(BadPacket):
        Framer().feed_untrusted(size.to_bytes(2, "big"))


@given(st.lists(st.binary(max_size=5000), max_size=5))
def test_noise_raises_nothing_else(parts: list[bytes]) -> None:
    """Only ``BadPacket``."""
    framer = Framer()
    with contextlib.suppress(BadPacket):
        for part in parts:
            framer.feed_untrusted(part)
