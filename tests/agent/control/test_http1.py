"""HTTP/1.1 before the Noise connection."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors import control_noise as v

from tailnet.agent.control.http1 import Upgrade, upgrade_request
from tailnet.agent.errors import BadPacket, RemoteProtocolError
from tailnet.agent.httpd.response import (
    MAX_BODY,
    MAX_HEAD,
    ResponseHead,
    read_body_untrusted,
    split_head_untrusted,
)
from tailnet.agent.keys import MachinePrivate, MachinePublic
from tailnet.agent.noise.control import Initiator, error_frame

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: Tailscale-Control-Protocol\r\n"
    b"Connection: upgrade\r\n\r\n"
)


def upgrade() -> Upgrade:
    """The vector's client."""
    return Upgrade(
        "h:1",
        Initiator(
            MachinePrivate(v.CLIENT_STATIC),
            MachinePublic(v.SERVER_PUBLIC),
            v.CLIENT_EPHEMERAL,
            v.VERSION,
        ),
    )


def test_request_is_a_post_with_the_handshake() -> None:
    """As the vector has it in base64."""
    request = upgrade_request("h:1", v.INITIATION)
    assert request.startswith(b"POST /ts2021 HTTP/1.1\r\nHost: h:1\r\n")
    assert b"X-Tailscale-Handshake: AJEBAGA5LRdKOLOxvq+vH+gkhwhBxfpT" in request
    assert request.endswith(b"\r\n\r\n")


@given(st.binary(max_size=30), st.lists(st.integers(0, 250), max_size=6))
def test_bytes_after_the_handshake_are_kept(rest: bytes, cuts: list[int]) -> None:
    """However they were cut; what came with the last piece is handed on."""
    wire = SWITCH + v.RESPONSE + rest
    one, out = upgrade(), None
    after = b""
    marks = sorted({0, len(wire), *(min(c, len(wire)) for c in cuts)})
    for a, b in itertools.pairwise(marks):
        if out is None:
            out = one.receive_untrusted(wire[a:b])
        else:
            after += wire[a:b]
    assert out is not None
    assert out[0].send == v.CLIENT_TO_SERVER
    assert out[1] + after == rest


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 301 Moved\r\n\r\n", "answered 301"),
        (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", "another protocol"),
        (SWITCH + error_frame("too old"), "too old"),
    ],
)
def test_refusals_are_worded(answer: bytes, words: str) -> None:
    """Status, protocol, error frame."""
    with pytest.raises(RemoteProtocolError, match=words):
        upgrade().receive_untrusted(answer)


def test_other_frames_are_refused() -> None:
    """A record instead of a response."""
    with pytest.raises(BadPacket):
        upgrade().receive_untrusted(SWITCH + b"\x04\x00\x10")


@given(st.binary(max_size=80))
def test_noise_is_refused_or_waits(data: bytes) -> None:
    """Only errors of ours leave the readers."""
    for wire in (data, b"HTTP/1.1 " + data, SWITCH + data):
        with contextlib.suppress(BadPacket):
            split_head_untrusted(wire)
        with contextlib.suppress(BadPacket, RemoteProtocolError):
            upgrade().receive_untrusted(wire)
    for headers in (
        {"transfer-encoding": "chunked"},
        {"content-length": data.decode("latin-1")},
        {},
    ):
        for eof in (False, True):
            with contextlib.suppress(BadPacket):
                read_body_untrusted(ResponseHead(200, headers), data, eof=eof)


@pytest.mark.parametrize(
    ("headers", "data", "eof", "body"),
    [
        ({"content-length": "2"}, b"ab", False, b"ab"),
        ({"content-length": "2"}, b"abc", False, b"ab"),
        ({"content-length": "2"}, b"a", False, None),
        ({}, b"ab", False, None),
        ({}, b"ab", True, b"ab"),
        ({"transfer-encoding": "chunked"}, b"1\r\na\r\n2;x\r\nbc\r\n0\r\n\r\n", False, b"abc"),
        ({"transfer-encoding": "chunked"}, b"3\r\na", False, None),
    ],
)
def test_bodies(headers: dict[str, str], data: bytes, eof: bool, body: bytes | None) -> None:
    """By length, by end of stream, by chunks."""
    assert read_body_untrusted(ResponseHead(200, headers), data, eof=eof) == body


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({"content-length": "-1"}, b""),
        ({"content-length": "x"}, b""),
        ({"content-length": "5"}, b"abc"),
        ({"transfer-encoding": "chunked"}, b"zz\r\n"),
        ({"transfer-encoding": "chunked"}, b"-1\r\n"),
        ({}, bytes(MAX_BODY + 1)),
    ],
)
def test_bad_bodies(headers: dict[str, str], data: bytes) -> None:
    """Bad framing, cut off, too long."""
    with pytest.raises(BadPacket):
        read_body_untrusted(ResponseHead(200, headers), data, eof=True)


def test_endless_head_is_refused() -> None:
    """Before it fills the memory."""
    with pytest.raises(BadPacket):
        split_head_untrusted(b"HTTP/1.1 200 OK\r\n" + b"x" * MAX_HEAD)
