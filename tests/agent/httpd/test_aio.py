"""The HTTP server on real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from tailnet.agent.httpd.aio import USUAL, Client, ClientGone, Limits, Server
from tailnet.agent.httpd.conversation import Request

GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
BIG = 8 << 20  # more than any socket takes

Talk = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Site:
    """Handlers by path, and what became of them."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.begun = asyncio.Event()

    async def handle(self, client: Client, request: Request) -> None:
        """Like a room would."""
        name = request.path[1:] or "hello"
        end = "finished"
        try:
            await getattr(self, name)(client)
        except asyncio.CancelledError:
            end = "cancelled"
            raise
        except ClientGone:
            end = "gone"
            raise
        finally:
            self.ended.put_nowait(end)

    async def hello(self, client: Client) -> None:
        """A short answer."""
        await client.answer(200, b"hello")

    async def echo(self, client: Client) -> None:
        """The body."""
        await client.answer(200, await client.read(100))

    async def wait(self, _: Client) -> None:
        """For ever."""
        self.begun.set()
        await asyncio.Event().wait()

    async def silence(self, _: Client) -> None:
        """No answer."""

    async def fail(self, _: Client) -> None:
        """A bug."""
        raise ZeroDivisionError

    async def fail_late(self, client: Client) -> None:
        """A bug in the middle of an answer."""
        await client.begin("text/plain")
        raise ZeroDivisionError

    async def flood(self, client: Client) -> None:
        """More than a client will take."""
        await client.begin("text/plain")
        for _ in range(BIG >> 16):
            await client.write(bytes(1 << 16))
        await client.end()


Connect = Callable[[], Awaitable[Talk]]


@asynccontextmanager
async def served(site: Site, limits: Limits = USUAL) -> AsyncIterator[tuple[Server, Connect]]:
    """A server over TCP, and a way to it."""
    async with asyncio.timeout(10), AsyncExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setblocking(False)
        server = Server(
            site.handle, headers={"Server": "s"}, admit=lambda _: len(talks) < 9, limits=limits
        )
        talks: list[Talk] = []

        async def connect() -> Talk:
            talks.append(await asyncio.open_connection(*listener.getsockname()))
            return talks[-1]

        server.serve(listener)
        try:
            yield server, connect
        finally:
            await server.close(0.0)
            for _, writer in talks:
                writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """Status, head and body of an answer with a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head[9:12]), head, await reader.readexactly(length)


async def test_requests_follow_each_other() -> None:
    """Pipelined ones are answered in order, on one connection."""
    async with served(Site()) as (_, connect):
        reader, writer = await connect()
        body = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        writer.write(GET % b"" + body + GET % b"")
        for expected in (b"hello", b"abc", b"hello"):
            status, head, got = await answer(reader)
            assert (status, got) == (200, expected)
            assert b"\r\nServer: s\r\nDate: " in head


async def test_a_stream_does_not_wait_for_acknowledgements() -> None:
    """Its small pieces leave at once, though the listener was made without naming TCP."""
    async with served(Site()) as (server, connect):
        reader, writer = await connect()
        writer.write(GET % b"")
        await answer(reader)
        (sock,) = server.sockets()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01", b"NONSENSE\r\n\r\n", b"G ET / HTTP/1.1\r\n\r\n"]
)
async def test_garbage_ends_the_connection(garbage: bytes) -> None:
    """Once what came before it has been answered."""
    async with served(Site()) as (_, connect):
        reader, writer = await connect()
        writer.write(GET % b"" + garbage + b"\r\n\r\n" + GET % b"")
        assert (await answer(reader))[0] == 200
        status, head, _ = await answer(reader)
        assert status == 400
        assert b"\r\nConnection: close\r\n" in head
        assert await reader.read() == b""


@pytest.mark.parametrize(
    "sent", [b"GET / HT", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na"]
)
async def test_slow_requests_are_408(sent: bytes) -> None:
    """Head and body have their time."""
    limits = replace(USUAL, head_time=0.02, body_time=0.02)
    async with served(Site(), limits) as (_, connect):
        reader, writer = await connect()
        writer.write(sent)
        assert (await answer(reader))[0] == 408
        assert await reader.read() == b""


async def test_idle_connections_end_without_a_word() -> None:
    """Before and after a request."""
    async with served(Site(), replace(USUAL, idle_time=0.02)) as (_, connect):
        reader, _ = await connect()
        assert await reader.read() == b""
        reader, writer = await connect()
        writer.write(GET % b"")
        assert (await answer(reader))[0] == 200
        assert await reader.read() == b""


async def test_the_body_comes_when_it_is_asked_for() -> None:
    """``Expect: 100-continue``; a body that is too large is never sent."""
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    async with served(Site()) as (_, connect):
        reader, writer = await connect()
        writer.write(head % 3)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await answer(reader))[2] == b"abc"
        writer.write(head % 101)
        assert (await answer(reader))[0] == 413
        assert await reader.read() == b""


async def test_an_unwanted_body_does_not_become_a_request() -> None:
    """One that has come is passed over; one that has not ends the connection."""
    async with served(Site()) as (_, connect):
        reader, writer = await connect()
        body = GET % b"fail"
        head = b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(body) + body + GET % b"")
        assert [(await answer(reader))[2] for _ in range(2)] == [b"hello", b"hello"]
        writer.write(head % (len(body) + 1) + body)
        assert b"\r\nConnection: close\r\n" in (await answer(reader))[1]
        assert await reader.read() == b""


async def test_the_answer_arrives_although_the_client_still_sends() -> None:
    """The socket is not closed over unread bytes: that would reset it."""
    async with served(Site()) as (_, connect):
        reader, writer = await connect()
        writer.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BIG)
        writer.write(bytes(BIG))
        assert (await answer(reader))[0] == 413
        assert await reader.read() == b""


async def test_a_client_that_leaves_cancels() -> None:
    """At once, not when the answer is ready."""
    site = Site()
    async with served(site) as (_, connect):
        _, writer = await connect()
        writer.write(GET % b"wait")
        await site.begun.wait()
        writer.close()
        assert await site.ended.get() == "cancelled"


async def test_a_client_that_reads_nothing_is_left() -> None:
    """After its time; the handler learns of it."""
    site = Site()
    async with served(site, replace(USUAL, stall_time=0.05)) as (_, connect):
        _, writer = await connect()
        writer.write(GET % b"flood")
        assert await site.ended.get() == "gone"


async def test_a_slow_reader_gets_everything() -> None:
    """The handler waits for it."""
    site = Site()
    async with served(site) as (_, connect):
        reader, writer = await connect()
        writer.write(b"GET /flood HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        data = await reader.read()
        assert data.endswith(b"\r\n0\r\n\r\n")
        assert data.count(0) == BIG


async def test_bugs_are_500(caplog: pytest.LogCaptureFixture) -> None:
    """Or the end of the connection, when there is half an answer; the log has the details."""
    async with served(Site()) as (_, connect):
        for path in (b"fail", b"silence"):
            reader, writer = await connect()
            writer.write(GET % path)
            assert (await answer(reader))[0] == 500
        reader, writer = await connect()
        writer.write(GET % b"fail_late")
        assert not (await reader.read()).endswith(b"0\r\n\r\n")
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3


async def test_too_many_are_told() -> None:
    """503, and the others go on."""
    async with served(Site()) as (_, connect):
        talks = [await connect() for _ in range(9)]
        for _, writer in talks[:8]:
            writer.write(GET % b"")
        assert [(await answer(reader))[0] for reader, _ in talks[:8]] == [200] * 8
        reader, _ = await connect()
        assert (await answer(reader))[0] == 503


async def test_closing_lets_answers_end() -> None:
    """Within the grace; whoever is idle hears nothing more."""
    site = Site()
    async with served(site) as (server, connect):
        idle, _ = await connect()
        busy, writer = await connect()
        writer.write(GET % b"wait")
        await site.begun.wait()
        await server.close(0.01)
        assert await idle.read() == b""
        assert await busy.read() == b""
        assert await site.ended.get() == "cancelled"
        assert list(server.sockets()) == []


async def test_a_client_cannot_send_ahead_without_bound() -> None:
    """What is not asked for stays in the sockets."""
    site = Site()
    async with served(site) as (server, connect):
        _, writer = await connect()
        writer.write(GET % b"wait" + bytes(BIG))
        await site.begun.wait()
        (client,) = server._connections
        while client._transport.is_reading():  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0)
        assert USUAL.ahead < len(client._inbox) < BIG / 4
        writer.transport.abort()
