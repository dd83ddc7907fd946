"""HTTP/1.1 without a socket: what is served, and what hostile bytes may not do."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.errors import LocalProtocolError
from tailnet.agent.httpd.conversation import (
    BadRequest,
    Conversation,
    Request,
    Step,
    http_date,
    parse_target_untrusted,
)

HOST = b"Host: a\r\n"
PIECES = [
    b"GET / HTTP/1.1\r\n",
    b"POST /x?y=%zz HTTP/1.1\r\n",
    b"HEAD http://h/p HTTP/1.0\r\n",
    b"HEAD http://h/p HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    HOST,
    b"Content-Length: 3\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b" folded\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: x\r\nConnection: upgrade\r\n",
    b"\r\n",
    b"\n",
    b"abc",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"ffffffffffffffffff\r\n",
    b"\0",
]
hostile = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=20)), max_size=12).map(
    b"".join
)


def play(data: bytes, cuts: list[int]) -> list[object]:
    """What a server would make of ``data`` that arrives in such pieces; it answers each request."""
    conversation = Conversation(256)
    seen: list[object] = []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    chunks = [data[a:b] for a, b in pairwise(edges)]
    body = b""
    try:
        while True:
            step = conversation.next_untrusted()
            if isinstance(step, bytes):
                body += step
            elif step is Step.NEED_DATA:
                conversation.receive(chunks.pop(0) if chunks else b"")
            elif isinstance(step, Request):
                seen.append(step)
            elif step is Step.END:
                seen.append(body)
                body = b""
                conversation.answer(200, (), b"ok", close=False)
                if not conversation.next_request():
                    return [*seen, "last"]
            else:
                return [*seen, step]
    except BadRequest as error:
        return [*seen, error.status]


@given(data=hostile, cuts=st.lists(st.integers(0, 300), max_size=8))
def test_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    """Garbage ends in an error or in peace, and how it was cut up changes no request."""
    whole, cut = play(data, []), play(data, cuts)
    # a head above the limit is noticed only while it is incomplete
    if 431 not in (whole[-1], cut[-1]):
        assert whole == cut


@given(data=hostile)
def test_no_request_has_two_lengths(data: bytes) -> None:
    """What some proxy in between may read in another way is no request (RFC 9112 section 6.3)."""
    for seen in play(data, []):
        if isinstance(seen, Request):
            assert not {"transfer-encoding", "content-length"} <= seen.headers.keys()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET https://a/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://[/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /?" + b"&".join([b"a=1"] * 101) + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 1000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    ],
)
def test_what_is_refused(head: bytes, status: int) -> None:
    """With the status that says why."""
    conversation = Conversation(900)
    conversation.receive(head)
    with pytest.raises(BadRequest) as caught:
        conversation.next_untrusted()
    assert caught.value.status == status
    answer = conversation.answer(status, (), b"no", close=True)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(b"\r\n\r\nno")


@pytest.mark.parametrize(
    ("target", "parsed"),
    [
        (b"/a%20b?x=1&x=2&y=&z=%C3%A9", (None, "/a b", {"x": "1", "y": "", "z": "é"})),
        (b"/", (None, "/", {})),
        (b"//h/p", (None, "//h/p", {})),
        (b"http://h:1/p?q=1", ("h:1", "/p", {"q": "1"})),
        (b"http://h", ("h", "/", {})),
    ],
)
def test_targets(target: bytes, parsed: tuple[str | None, str, dict[str, str]]) -> None:
    """Decoded once; the first value of a key counts."""
    assert parse_target_untrusted(target) == parsed


def test_a_target_with_a_host_beats_the_header() -> None:
    """RFC 9112 section 3.2.2: or a check of ``Host`` could be walked around."""
    conversation = Conversation(900)
    conversation.receive(b"GET http://evil/ HTTP/1.1\r\nHost: good\r\n\r\n")
    request = conversation.next_untrusted()
    assert isinstance(request, Request)
    assert request.host == "evil"


def test_repeated_headers_are_joined() -> None:
    """By commas, under one name in lower case."""
    conversation = Conversation(900)
    conversation.receive(b"GET / HTTP/1.1\r\n" + HOST + b"X-A: 1\r\nx-a: 2\r\n\r\n")
    request = conversation.next_untrusted()
    assert isinstance(request, Request)
    assert request.headers == {"host": "a", "x-a": "1, 2"}


def test_head_has_the_length_and_not_the_body() -> None:
    """RFC 9110 section 9.3.2; and 204 has neither."""
    for status, end in (
        (200, b"Content-Length: 2\r\n\r\n"),
        (204, b"HTTP/1.1 204 No Content\r\n\r\n"),
    ):
        conversation = Conversation(900)
        conversation.receive(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
        conversation.next_untrusted()
        assert conversation.answer(status, (), b"ok", close=False).endswith(end)


def test_garbage_after_a_head_is_answered_with_a_body() -> None:
    """What came before it says nothing about it."""
    conversation = Conversation(900)
    conversation.receive(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n\0\r\n\r\n")
    conversation.next_untrusted()
    conversation.next_untrusted()
    conversation.answer(200, (), b"ok", close=False)
    assert conversation.next_request()
    with pytest.raises(BadRequest):
        conversation.next_untrusted()
    assert conversation.answer(400, (), b"no", close=True).endswith(b"\r\n\r\nno")


def test_a_header_of_ours_cannot_end_the_head() -> None:
    """A line break in a value is our bug, and not an answer of its own."""
    conversation = Conversation(900)
    with pytest.raises(LocalProtocolError):
        conversation.begin(200, [("X", "a\r\nY: b")])


def test_dates() -> None:
    """The example of RFC 9110."""
    now = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
    assert http_date(now) == "Sun, 06 Nov 1994 08:49:37 GMT"
