"""TLS as one layer, against asyncio's own at the other end, over loopback."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from integration.lab.tls import make_server_tls

from tailnet.agent.derp.tls.aio import READ_SIZE, TlsTransport, connect

SERVER, _, CA = make_server_tls(["127.0.0.1"])
MEGABYTES = 4 << 20  # bytes; more than the kernel's buffers and ours hold

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Owner(asyncio.Protocol):
    """Remembers what it is told; woken by each."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.got = b""
        self._woken = asyncio.Event()

    def _note(self, what: str) -> None:
        self.told.append(what)
        self._woken.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is ours."""
        self._note("made")

    def data_received(self, data: bytes) -> None:
        """Bytes."""
        self.got += data
        self._woken.set()

    def eof_received(self) -> None:
        """No more come."""
        self._note("eof")

    def pause_writing(self) -> None:
        """Enough for now."""
        self._note("pause")

    def resume_writing(self) -> None:
        """More may come."""
        self._note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._note("lost")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds."""
        async with asyncio.timeout(20):
            while not condition():
                self._woken.clear()
                await self._woken.wait()


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[int]:
    """A TLS server on loopback; its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(run, "127.0.0.1", 0, ssl=SERVER)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def trusting() -> ssl.SSLContext:
    """A client that knows who signed the server."""
    return ssl.create_default_context(cadata=CA)


async def opened(port: int, context: ssl.SSLContext) -> TlsTransport:
    """A stream after its handshake."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return await connect(sock, context, "127.0.0.1", memoryview(bytearray(READ_SIZE)))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 187, 16384, 16385, MEGABYTES])
async def test_bytes_come_whole_and_in_order(size: int, version: ssl.TLSVersion) -> None:
    """Less than a record, more than one, more than all buffers hold."""
    context = trusting()
    context.maximum_version = version
    async with served(echo) as port:
        transport, owner = await opened(port, context), Owner()
        transport.begin(owner)
        data = os.urandom(size)
        transport.write(data)
        await owner.until(lambda: len(owner.got) >= size)
        assert owner.got == data
        transport.abort()


async def test_what_came_right_behind_the_handshake_is_handed_over() -> None:
    """The last read of the handshake may have brought it."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read()

    async with served(greet) as port:
        transport, owner = await opened(port, trusting()), Owner()
        transport.begin(owner)
        await owner.until(lambda: owner.got == b"hello")
        transport.abort()


async def test_who_does_not_read_pauses_the_writer_and_no_byte_is_lost() -> None:
    """What the kernel does not take waits here."""
    may_read = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_read.wait()
        await echo(reader, writer)

    async with served(slow) as port:
        transport, owner = await opened(port, trusting()), Owner()
        transport.begin(owner)
        pieces = [os.urandom(1 << 16) for _ in range(MEGABYTES >> 16)]
        for piece in pieces * 4:
            transport.write(piece)
        assert owner.told == ["made", "pause"]
        may_read.set()
        await owner.until(lambda: len(owner.got) >= 4 * MEGABYTES)
        assert owner.got == b"".join(pieces * 4)
        assert owner.told == ["made", "pause", "resume"]
        transport.abort()


async def test_the_end_of_the_stream_is_told_once() -> None:
    """As asyncio's own transports do."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.close()
        await writer.wait_closed()

    async with served(leave) as port:
        transport, owner = await opened(port, trusting()), Owner()
        transport.begin(owner)
        await owner.until(lambda: "lost" in owner.told)
        assert owner.got == b"bye"
        assert owner.told == ["made", "eof", "lost"]
        transport.write(b"too late")
        transport.abort()
        assert transport.is_closing()


async def test_a_reset_ends_it() -> None:
    """Whether or not bytes of ours were on their way."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with served(break_off) as port:
        transport, owner = await opened(port, trusting()), Owner()
        transport.begin(owner)
        transport.write(b"x")
        await owner.until(lambda: "lost" in owner.told)


async def test_nothing_is_read_while_the_owner_wants_nothing() -> None:
    """It stays in the kernel."""
    async with served(echo) as port:
        transport, owner = await opened(port, trusting()), Owner()
        transport.begin(owner)
        transport.write(b"first")
        await owner.until(lambda: owner.got == b"first")
        transport.pause_reading()
        transport.write(b" second")
        loop = asyncio.get_running_loop()
        there: asyncio.Future[None] = loop.create_future()
        watched = transport.get_extra_info("socket").dup()
        loop.add_reader(watched, lambda: None if there.done() else there.set_result(None))
        await there
        loop.remove_reader(watched)
        watched.close()
        assert owner.got == b"first"
        transport.resume_reading()
        await owner.until(lambda: owner.got == b"first second")
        transport.abort()


async def test_an_unknown_signer_is_refused_before_anybody_is_told() -> None:
    """The handshake fails."""
    async with served(echo) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await opened(port, ssl.create_default_context())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(64)])
async def test_who_does_not_speak_tls_is_an_os_error(answer: bytes) -> None:
    """Also one that hangs up."""

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
        with pytest.raises(OSError, match=r"\S"):
            await opened(server.sockets[0].getsockname()[1], trusting())
