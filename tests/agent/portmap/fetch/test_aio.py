"""Requests to gateways that mean no good, on loopback."""

import asyncio
import socket
from contextlib import suppress
from ipaddress import IPv4Address

import pytest

from tailnet.agent.portmap.fetch import aio
from tailnet.agent.portmap.fetch.aio import NO_ANSWER, Answer, fetch
from tailnet.agent.portmap.igd import Post
from tailnet.agent.portmap.upnp import MAX_DOCUMENT

OWN = IPv4Address("127.0.0.1")
OK = b"HTTP/1.1 200 OK\r\n"


async def answered(said: bytes, *, hang: bool = False, action: str = "") -> tuple[Answer, bytes]:
    """What comes of a request to a server that says this, and what it heard."""
    heard = bytearray()
    marked: list[socket.socket] = []
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.readuntil(b"\r\n\r\n"))
        with suppress(OSError):
            writer.write(said)
            if hang:
                await reader.read()
            writer.close()
            await writer.wait_closed()
        served.set()

    server = await asyncio.start_server(serve, str(OWN), 0)
    port = server.sockets[0].getsockname()[1]
    post = Post(1, f"http://{OWN}:{port}/c?x=1", action, b"<a/>" if action else b"")
    try:
        answer = await fetch(post, OWN, marked.append)
        await served.wait()
    finally:
        server.close()
    assert len(marked) == 1
    return answer, bytes(heard)


async def test_a_good_answer_is_handed_on() -> None:
    """With a length, in chunks, or until the end; from a GET and from a call."""
    for said in (
        OK + b"Content-Length: 3\r\n\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nabc",
    ):
        answer, heard = await answered(said)
        assert answer == Answer(200, b"abc")
        assert heard.startswith(b"GET /c?x=1 HTTP/1.1\r\n")
    answer, heard = await answered(OK + b"Content-Length: 0\r\n\r\n", action='"s#Do"')
    assert answer == Answer(200, b"")
    assert b'SOAPAction: "s#Do"\r\n' in heard


async def test_a_redirect_leads_nowhere() -> None:
    """It is an answer like any other."""
    said = b"HTTP/1.1 302 No\r\nLocation: http://10.9.9.9/\r\nContent-Length: 0\r\n\r\n"
    assert (await answered(said))[0] == Answer(302, b"")


@pytest.mark.parametrize(
    "said",
    [
        b"\x00\xff garbage\r\n\r\n",
        b"",
        OK + b"Content-Length: 10\r\n\r\nabc",
        OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        OK + b"\r\n" + b"x" * (MAX_DOCUMENT + 1),
    ],
    ids=["garbage", "nothing", "cut off", "huge head", "huge body"],
)
async def test_a_bad_answer_is_none(said: bytes) -> None:
    """However it is bad."""
    assert (await answered(said))[0] == NO_ANSWER


async def test_a_slow_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is for all of it."""
    monkeypatch.setattr(aio, "GET_TIMEOUT", 0.05)
    assert (await answered(OK + b"Content-Length: 3\r\n\r\na", hang=True))[0] == NO_ANSWER


async def test_nobody_there_is_none() -> None:
    """A port that is closed."""
    assert await fetch(Post(1, "http://127.0.0.1:1/", "", b""), OWN, lambda _: None) == NO_ANSWER
