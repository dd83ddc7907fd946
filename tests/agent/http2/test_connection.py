"""HTTP/2 between two of our ends, with and without the records around it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors import control_noise as v

from tailnet.agent.control.channel import Channel
from tailnet.agent.errors import BadPacket, LocalProtocolError
from tailnet.agent.http2.connection import Body, Ended, GoneAway, Head, Http2, HttpEvent
from tailnet.agent.noise.control import TransportKeys

CLIENT = TransportKeys(send=v.CLIENT_TO_SERVER, receive=v.SERVER_TO_CLIENT, hash=bytes(32))
SERVER = TransportKeys(send=v.SERVER_TO_CLIENT, receive=v.CLIENT_TO_SERVER, hash=bytes(32))


class Pair:
    """A client and a server joined by a perfect network."""

    def __init__(self, early: bytes | None = b"{}") -> None:
        self.client = Channel(CLIENT, client=True)
        self.server = Channel(SERVER, client=False, early=early)

    def run(self) -> tuple[list[HttpEvent], list[HttpEvent]]:
        """Exchange until both are quiet; events of the client, of the server."""
        events: tuple[list[HttpEvent], list[HttpEvent]] = ([], [])
        ends = ((self.client, self.server, events[1]), (self.server, self.client, events[0]))
        quiet = False
        while not quiet:
            quiet = True
            for sender, receiver, heard in ends:
                if (data := sender.poll_transmit()) is not None:
                    quiet = False
                    receiver.receive_untrusted(data)
                while (event := receiver.http.poll_event()) is not None:
                    heard.append(event)
        return events


def open_request(pair: Pair, body: bytes = b"") -> int:
    """One POST, seen by the server."""
    stream = pair.client.http.open("POST", "/x", "host", body)
    pair.run()
    return stream


@pytest.mark.parametrize("early", [None, b"", b'{"a":1}'])
def test_request_and_response(early: bytes | None) -> None:
    """Heads and bodies, whatever came before HTTP/2."""
    pair = Pair(early)
    stream = pair.client.http.open("POST", "/machine/map", "host", b"hello")
    _, heard = pair.run()
    head, body, end = heard
    assert isinstance(head, Head)
    assert (head.headers[":method"], head.headers[":path"]) == ("POST", "/machine/map")
    assert isinstance(body, Body)
    assert body.data == b"hello"
    assert end == Ended(stream)
    pair.server.http.respond(stream, 200, {"x": "y"}, end=False)
    pair.server.http.write(stream, b"world", end=True)
    head, body, end = pair.run()[0]
    assert isinstance(head, Head)
    assert (head.headers[":status"], head.headers["x"]) == ("200", "y")
    assert isinstance(body, Body)
    assert body.data == b"world"
    assert end == Ended(stream)


def test_request_larger_than_the_first_window() -> None:
    """It waits for the window and arrives whole."""
    pair = Pair()
    pair.client.http.open("POST", "/x", "host", bytes(3 << 20))
    _, heard = pair.run()
    assert sum(len(e.data) for e in heard if isinstance(e, Body)) == 3 << 20
    assert isinstance(heard[-1], Ended)


def test_unread_stream_does_not_block_another() -> None:
    """One map stalls at its window; another stream's answer passes."""
    pair = Pair()
    first, second = open_request(pair), open_request(pair)
    for stream in (first, second):
        pair.server.http.respond(stream, 200, {}, end=False)
    pair.server.http.write(first, bytes(9 << 20))
    pair.run()
    assert pair.server.http.queued(first) > 0
    pair.server.http.write(second, b"quick", end=True)
    assert Ended(second) in pair.run()[0]


def test_consumed_bytes_open_the_window() -> None:
    """A map larger than the window arrives as it is read."""
    pair = Pair()
    stream = open_request(pair)
    pair.server.http.respond(stream, 200, {}, end=False)
    pair.server.http.write(stream, bytes(9 << 20), end=True)
    got = 0
    while True:
        events = pair.run()[0]
        for event in events:
            if isinstance(event, Body):
                got += len(event.data)
                pair.client.http.consumed(stream, event.size)
        if not events:
            break
    assert got == 9 << 20


def test_cancelled_stream_is_reset() -> None:
    """The server hears of it, and writing on is harmless."""
    pair = Pair()
    stream = open_request(pair)
    pair.client.http.cancel(stream)
    (event,) = pair.run()[1]
    assert isinstance(event, Ended)
    assert event.reason
    pair.server.http.respond(stream, 200, {}, end=False)
    pair.server.http.write(stream, b"late", end=True)
    assert pair.server.http.queued(stream) == 0
    pair.client.http.cancel(stream)


def test_goodbye_is_an_event() -> None:
    """GOAWAY; then no new stream."""
    one = Http2(client=True)
    goaway = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8)
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    one.receive_untrusted(settings + goaway)
    assert isinstance(one.poll_event(), GoneAway)
    with pytest.raises(LocalProtocolError):
        one.open("GET", "/", "h", b"")


def test_get_may_have_a_body() -> None:
    """Tailnet lock's requests are like that."""
    pair = Pair()
    pair.client.http.open("GET", "/machine/tka/init", "host", b"{}")
    assert any(isinstance(e, Body) and e.data == b"{}" for e in pair.run()[1])


@given(st.binary(max_size=100), st.booleans())
def test_noise_is_refused_or_waits(data: bytes, client: bool) -> None:
    """Only ``BadPacket`` leaves ``receive_untrusted``, of HTTP/2 and of the channel."""
    with contextlib.suppress(BadPacket):
        one = Http2(client=client)
        one.receive_untrusted(b"" if client else b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        one.receive_untrusted(data)
    with contextlib.suppress(BadPacket):
        Channel(CLIENT, client=client).receive_untrusted(data)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.integers(0, 10),
            st.integers(0, 255),
            st.integers(0, 4),
            st.binary(max_size=20),
        ),
        max_size=4,
    )
)
def test_frames_of_noise_are_refused_or_taken(
    frames: list[tuple[int, int, int, int, bytes]],
) -> None:
    """Well-formed frame heads reach deeper than plain noise."""
    one = Http2(client=True)
    stream = one.open("GET", "/", "h", b"")
    with contextlib.suppress(BadPacket):
        one.receive_untrusted(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        for _, kind, flags, number, body in frames:
            head = len(body).to_bytes(3, "big") + bytes([kind, flags]) + number.to_bytes(4, "big")
            one.receive_untrusted(head + body)
        one.write(stream, b"x", end=True)
