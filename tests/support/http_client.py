"""A strict HTTP client on a unix socket; one connection a request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import h11


@dataclass(frozen=True)
class Answer:
    """What the server said, its body complete by its own account."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()


class Talk:
    """A connection on which a request has been sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.conn = h11.Connection(h11.CLIENT)
        self._buffer = bytearray()
        self._ended = False

    async def event(self) -> h11.Event:
        """What the server says next; broken framing is an error."""
        while True:
            event = self.conn.next_event()
            if isinstance(event, h11.Event):
                return event
            self.conn.receive_data(await self._reader.read(1 << 16))

    async def readline(self) -> bytes:
        """A line of the body; nothing at its end."""
        while (end := self._buffer.find(b"\n")) < 0 and not self._ended:
            event = await self.event()
            if isinstance(event, h11.Data):
                self._buffer += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._ended = True
        line = bytes(self._buffer[: end + 1]) if end >= 0 else bytes(self._buffer)
        del self._buffer[: len(line)]
        return line

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if line := await self.readline():
            return line
        raise StopAsyncIteration

    async def answer(self) -> Answer:
        """The whole answer."""
        event = await self.event()
        while isinstance(event, h11.InformationalResponse):
            event = await self.event()
        assert isinstance(event, h11.Response)
        body = b""
        while isinstance(data := await self.event(), h11.Data):
            body += data.data
        assert isinstance(data, h11.EndOfMessage)
        headers = {name.decode(): value.decode() for name, value in event.headers}
        return Answer(event.status_code, headers, body)


@dataclass(frozen=True)
class HttpClient:
    """Asks the server at ``path`` as ``host``."""

    path: Path
    host: str

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        chunked: bool = False,
    ) -> Answer:
        """One whole exchange."""
        length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}
        fields = {"Host": self.host, **length, **(headers or {})}
        async with self._talk(method, target, fields) as talk:
            with contextlib.suppress(ConnectionError):  # it may have heard enough
                talk.writer.write(talk.conn.send(h11.Data(data=body)) or b"")
                talk.writer.write(talk.conn.send(h11.EndOfMessage()) or b"")
                await talk.writer.drain()
            return await talk.answer()

    @asynccontextmanager
    async def stream(self, target: str) -> AsyncIterator[Talk]:
        """A ``GET`` whose answer comes line by line."""
        async with self._talk("GET", target, {"Host": self.host}) as talk:
            talk.writer.write(talk.conn.send(h11.EndOfMessage()) or b"")
            response = await talk.event()
            assert isinstance(response, h11.Response)
            assert response.status_code == 200
            yield talk

    @asynccontextmanager
    async def _talk(
        self, method: str, target: str, headers: Mapping[str, str]
    ) -> AsyncIterator[Talk]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        try:
            talk = Talk(reader, writer)
            request = h11.Request(method=method, target=target, headers=list(headers.items()))
            writer.write(talk.conn.send(request) or b"")
            yield talk
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
