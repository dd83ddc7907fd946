"""HTTP with servers that are not trusted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.errors import BadPacket
from tailnet.agent.netcheck.exchange import AnswerReader, encode_get

ANSWER = b"HTTP/1.1 204 No Content\r\nX-One: a\r\n\r\n"


@given(st.lists(st.integers(0, len(ANSWER))))
def test_head_however_it_is_chunked(cuts: list[int]) -> None:
    """Nothing before it is whole."""
    reader = AnswerReader()
    at, found = 0, None
    for end in [*sorted(cuts), len(ANSWER)]:
        if end > at:
            assert found is None
            found = reader.feed_untrusted(ANSWER[at:end])
            at = end
    assert found is not None
    assert found.status == 204
    assert found.headers == {"x-one": "a"}


@pytest.mark.parametrize(
    "data", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 9000]
)
def test_anything_else_is_a_bad_packet(data: bytes) -> None:
    """The end of the stream included."""
    with pytest.raises(BadPacket):
        AnswerReader().feed_untrusted(data)


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=5))
def test_noise_is_a_bad_packet_or_nothing_yet(chunks: list[bytes]) -> None:
    """Never another error."""
    reader = AnswerReader()
    try:
        for chunk in chunks:
            reader.feed_untrusted(chunk)
    except BadPacket:
        return


def test_informational_answers_are_passed_over() -> None:
    """The real one follows."""
    answer = AnswerReader().feed_untrusted(b"HTTP/1.1 103 Early Hints\r\n\r\n" + ANSWER)
    assert answer is not None
    assert answer.status == 204


@pytest.mark.parametrize("host", ["a\r\nX: y", "a\nb"])
def test_names_that_cannot_stand_in_a_request(host: str) -> None:
    """They come from the network map."""
    with pytest.raises(BadPacket):
        encode_get(host, "/")
