"""Questions by HTTP/2 to a real server on loopback: good, bad, gone, or somebody else."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import StreamClosedError
from integration.lab.tls import make_server_tls

from tailnet.agent.dns.https.aio import MAX_ANSWER, MESSAGE, HttpsClient
from tailnet.agent.dns.upstream import Https

TLS, _, CA = make_server_tls(["dns.lab"])
TLS.set_alpn_protocols(["h2"])
LOOPBACK = (ip_address("127.0.0.1"),)
Answers = Callable[[bytes], tuple[int, str, bytes]]


def verifying() -> ssl.SSLContext:
    """Trusts the server's authority alone."""
    return ssl.create_default_context(cadata=CA)


class Server:
    """Counts its connections; ``answers`` gives status, type and body."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.port = 0
        self.connections = 0
        self.heads: list[dict[str, str]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, by h2."""
        self.connections += 1
        self._writers.append(writer)
        http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        http.initiate_connection()
        bodies: dict[int, bytes] = {}
        writer.write(http.data_to_send())
        while data := await reader.read(65536):
            for event in http.receive_data(data):
                if isinstance(event, RequestReceived):
                    self.heads.append({str(key): str(value) for key, value in event.headers or ()})
                elif isinstance(event, DataReceived):
                    bodies[event.stream_id or 0] = event.data or b""
                elif isinstance(event, StreamEnded):
                    with contextlib.suppress(StreamClosedError):  # who asked has given up
                        self._answer(http, event.stream_id or 0, bodies)
            writer.write(http.data_to_send())
        writer.close()

    def _answer(self, http: H2Connection, stream: int, bodies: dict[int, bytes]) -> None:
        status, kind, body = self.answers(bodies.pop(stream))
        http.send_headers(stream, [(":status", str(status)), ("content-type", kind)])
        for at in range(0, len(body), 16384):
            http.send_data(stream, body[at : at + 16384])
        http.end_stream(stream)

    def hang_up(self) -> None:
        """On everybody."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@asynccontextmanager
async def served(answers: Answers) -> AsyncIterator[Server]:
    """A server on a port of its own."""
    server = Server(answers)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=TLS)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        server.hang_up()


@asynccontextmanager
async def client() -> AsyncIterator[HttpsClient]:
    """One that hangs up in the end."""
    made = HttpsClient(verifying)
    try:
        yield made
    finally:
        await made.close()


def echo(body: bytes) -> tuple[int, str, bytes]:
    """As good an answer as any."""
    return 200, MESSAGE, b"answer to " + body


def at(server: Server, host: str = "dns.lab") -> Https:
    """Its address is known."""
    return Https(f"https://{host}:{server.port}/dns-query", LOOPBACK)


async def test_many_questions_share_one_connection() -> None:
    """At once, and one after the other."""
    async with served(echo) as server, client() as ask:
        said = await asyncio.gather(*(ask(at(server), bytes([n])) for n in range(20)))
        assert said == [b"answer to " + bytes([n]) for n in range(20)]
        assert await ask(at(server), b"last") == b"answer to last"
        assert server.connections == 1
    head = server.heads[0]
    assert (head[":method"], head[":path"]) == ("POST", "/dns-query")
    assert head["content-type"] == head["accept"] == MESSAGE


async def test_after_a_server_hung_up_it_is_dialled_again() -> None:
    """The question under way fails, the next does not."""
    async with served(echo) as server, client() as ask:
        assert await ask(at(server), b"1") == b"answer to 1"
        server.hang_up()
        for _ in range(20):  # until the end of the connection has come
            await asyncio.sleep(0)
        try:
            assert await ask(at(server), b"2") == b"answer to 2"
        except OSError:
            assert await ask(at(server), b"2") == b"answer to 2"
        assert server.connections == 2


@pytest.mark.parametrize(
    ("status", "kind", "body", "words"),
    [
        (503, MESSAGE, b"", "answered 503"),
        (404, "text/html", b"no", "answered 404"),
        (200, "text/html", b"<html>", "text/html"),
        (200, MESSAGE, bytes(MAX_ANSWER + 1), "too long"),
    ],
)
async def test_what_is_no_answer_is_a_failure(
    status: int, kind: str, body: bytes, words: str
) -> None:
    """In words; the connection stays good."""
    async with served(lambda _: (status, kind, body)) as server, client() as ask:
        with pytest.raises(OSError, match=words):
            await ask(at(server), b"?")
        server.answers = echo
        assert await ask(at(server), b"!") == b"answer to !"
        assert server.connections == 1


async def test_somebody_else_is_not_believed() -> None:
    """The certificate is for another name."""
    async with served(echo) as server, client() as ask:
        with pytest.raises(OSError, match="certificate"):
            await ask(at(server, "dns.other"), b"?")


async def test_a_server_of_the_old_protocol_is_refused() -> None:
    """Before anything is asked in a language that it does not speak."""
    old, _, authority = make_server_tls(["dns.lab"])
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", ssl=old)
    url = f"https://dns.lab:{listener.sockets[0].getsockname()[1]}/dns-query"
    ask = HttpsClient(lambda: ssl.create_default_context(cadata=authority))
    async with listener:
        with pytest.raises(OSError, match="does not speak HTTP/2"):
            await ask(Https(url, LOOPBACK), b"?")
    await ask.close()


async def test_nobody_there_is_a_failure_and_leaves_nothing_open() -> None:
    """At once."""
    async with served(echo) as server:
        pass
    async with client() as ask:
        with pytest.raises(OSError):  # noqa: PT011 - the system's words
            await ask(at(server), b"?")
        with pytest.raises(OSError, match="no address"):
            await ask(Https("http://dns.lab/", ()), b"?")


@pytest.mark.parametrize(
    ("head", "body", "words"),
    [
        (f"200 OK\r\nContent-Type: {MESSAGE}\r\nContent-Length: 4", b"good", ""),
        (
            f"200 OK\r\nContent-Type: {MESSAGE}\r\nTransfer-Encoding: chunked",
            b"4\r\ngood\r\n0\r\n\r\n",
            "",
        ),
        (f"503 No\r\nContent-Type: {MESSAGE}\r\nContent-Length: 4", b"good", "answered 503"),
        ("200 OK\r\nContent-Type: text/html\r\nContent-Length: 4", b"good", "text/html"),
        (f"200 OK\r\nContent-Type: {MESSAGE}\r\nContent-Length: 9", b"good", "cut off"),
    ],
)
async def test_a_peer_is_asked_without_tls(head: str, body: bytes, words: str) -> None:
    """By HTTP/1.1; WireGuard is below."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(1))
        writer.write(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    to = Https(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/dns-query", ())
    async with listener, client() as ask:
        if words:
            with pytest.raises(OSError, match=words):
                await ask(to, b"x")
        else:
            assert await ask(to, b"x") == b"good"
    assert heard[0].startswith(b"POST /dns-query HTTP/1.1\r\n")
    assert heard[0].endswith(b"\r\n\r\nx")


async def test_who_gives_up_does_not_disturb_the_others() -> None:
    """Its stream is reset."""
    async with served(echo) as server, client() as ask:
        assert await ask(at(server), b"1") == b"answer to 1"
        task = asyncio.create_task(ask(at(server), b"2"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await ask(at(server), b"3") == b"answer to 3"
        assert server.connections == 1
