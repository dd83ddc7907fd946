"""The client's HTTP, without a socket."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.client.wire import MAX_HEAD, Answer, Nonsense, request


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks, to its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n\r\n"


def read(data: bytes, cuts: list[int]) -> Answer:
    """Feed in pieces; the body is in ``got``."""
    answer = Answer()
    body = b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for first, last in pairwise(edges):
        if first < last:
            body += answer.feed(data[first:last])
    answer.headers["got"] = body.decode("latin-1")
    return answer


@given(st.lists(st.binary(max_size=20), max_size=5), st.lists(st.integers(0, 300), max_size=8))
def test_chunks_join_however_they_come(pieces: list[bytes], cuts: list[int]) -> None:
    """Cut anywhere."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = read(head + chunked(*pieces), cuts)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.headers["got"].encode("latin-1") == b"".join(pieces)


@given(st.binary(max_size=50), st.lists(st.integers(0, 200), max_size=8))
def test_bodies_of_known_length_end_there(body: bytes, cuts: list[int]) -> None:
    """Cut anywhere."""
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = read(head + body, cuts)
    assert (answer.status, answer.complete) == (404, True)
    assert answer.headers["got"].encode("latin-1") == body


def test_a_switch_of_protocols_keeps_what_came_behind() -> None:
    """For whoever speaks the other one."""
    answer = Answer()
    assert answer.feed(b"HTTP/1.1 101 Switching\r\nUpgrade: ts-dial\r\n\r\nhello") == b""
    assert (answer.complete, answer.rest(), answer.rest()) == (True, b"hello", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"A" * (MAX_HEAD + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * (MAX_HEAD + 1),
    ],
)
def test_other_programs_are_told_apart(data: bytes) -> None:
    """And never believed."""
    with pytest.raises(Nonsense):
        Answer().feed(data)


def test_an_end_before_the_end_is_a_broken_connection() -> None:
    """In the head, and in the body."""
    for data in (b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"):
        answer = Answer()
        answer.feed(data)
        with pytest.raises(ConnectionError):
            answer.feed(b"")


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_garbage_is_nonsense_or_waited_for(pieces: list[bytes]) -> None:
    """Nothing else is raised."""
    answer = Answer()
    for piece in pieces:
        try:
            answer.feed(piece or b"\r")
        except Nonsense:
            return


def test_a_request_names_the_daemon_and_its_own_length() -> None:
    """And ends the connection."""
    assert request("POST", "ping?ip=1", b"{}") == (
        b"POST /localapi/v0/ping?ip=1 HTTP/1.1\r\nHost: local-tailscaled.sock\r\n"
        b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
    )
