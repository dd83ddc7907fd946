"""The shell around one open control connection: many requests at once over one socket."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from tailnet.agent.addr import IPAddress, unmap
from tailnet.agent.control.channel import Channel
from tailnet.agent.control.liveness import Liveness
from tailnet.agent.errors import BadPacket, RemoteProtocolError, TailnetError
from tailnet.agent.http2.connection import Body, Ended, GoneAway, Head
from tailnet.agent.tasks import Tasks

READ_SIZE = 256 << 10  # bytes
MAX_REPLY = 1 << 20  # bytes; direct.go limits a register reply to this


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Stream:
    """One request and the response to it, as it comes."""

    def __init__(self, connection: "Connection", number: int) -> None:
        self._connection = connection
        self._number = number
        self._head: Head | None = None
        self._chunks: deque[Body] = deque()
        self._end: str | None = None
        self._wake = asyncio.Event()

    def handle(self, event: Head | Body | Ended) -> None:
        """What the connection received for this stream."""
        match event:
            case Head():
                self._head = event
            case Body():
                self._chunks.append(event)
            case Ended(reason=reason):
                self._end = reason
        self._wake.set()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and fields.

        Raises:
            RemoteProtocolError: the stream ended before.
        """
        while self._head is None:
            if self._end is not None:
                raise RemoteProtocolError(self._end or "the server ended the request")
            await self._wait()
        status = self._head.headers.get(":status", "")
        return (int(status) if status.isascii() and status.isdigit() else 0), self._head.headers

    async def read(self) -> bytes:
        """Next bytes of the body; empty at its end.

        Raises:
            RemoteProtocolError: the stream broke.
        """
        while not self._chunks:
            if self._end:
                raise RemoteProtocolError(self._end)
            if self._end is not None:
                return b""
            await self._wait()
        chunk = self._chunks.popleft()
        self._connection.consumed(self._number, chunk.size)
        return chunk.data or await self.read()

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body.

        Raises:
            RemoteProtocolError: the stream broke, or the body is longer than ``limit``.
        """
        body = b""
        while chunk := await self.read():
            body += chunk
            if len(body) > limit:
                msg = "the server's answer is too long"
                raise RemoteProtocolError(msg)
        return body

    def fail(self, reason: str) -> None:
        """Let the reader fail with ``reason``, whatever the server does."""
        self._chunks.clear()
        self._end = reason
        self._wake.set()

    def close(self) -> None:
        """Give up on the rest."""
        self._connection.forget(self._number, cancel=self._end is None)

    async def _wait(self) -> None:
        self._wake.clear()
        await self._wake.wait()


class Connection:
    """An open Noise connection; ends when either side closes it.

    Once the server says goodbye it takes no new requests; it ends with the last one under way.

    Args:
        first: bytes that came together with the end of the handshake.
        now: monotonic clock [s].
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        channel: Channel,
        first: bytes,
        now: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._channel = channel
        self._first = first
        self._streams: dict[int, Stream] = {}
        self._tasks = Tasks()
        self._now = now
        self._liveness = Liveness(now())
        self._limit: asyncio.Timeout | None = None  # of the wait for the next bytes
        self._retired = False
        self.alive = True
        """It has not ended."""

    @property
    def usable(self) -> bool:
        """New requests can be sent."""
        return self.alive and not self._retired and self._channel.http.has_room

    def start(self) -> None:
        """Begin to read and write."""
        self.pump()
        self._reading = self._tasks.start("control connection", self._read())

    def open(self, method: str, path: str, authority: str, body: bytes) -> Stream:
        """Send a request.

        Raises:
            LocalProtocolError: the connection is not usable.
        """
        number = self._channel.http.open(method, path, authority, body)
        stream = self._streams[number] = Stream(self, number)
        self.pump()
        return stream

    async def fetch(self, method: str, path: str, authority: str, body: bytes) -> Reply:
        """Send a request and read the whole response.

        Raises:
            LocalProtocolError: the connection is not usable.
            RemoteProtocolError: it broke, or the response is longer than 1 MiB.
        """
        stream = self.open(method, path, authority, body)
        try:
            status, headers = await stream.head()
            return Reply(status, headers, await stream.read_all(MAX_REPLY))
        finally:
            stream.close()

    def consumed(self, number: int, size: int) -> None:
        """A stream's reader took ``size`` bytes."""
        self._channel.http.consumed(number, size)
        self.pump()

    def forget(self, number: int, *, cancel: bool) -> None:
        """A stream's reader is done with it."""
        if self._streams.pop(number, None) is not None and cancel and self.alive:
            self._channel.http.cancel(number)
            self.pump()
        self._end_if_idle()

    def retire(self) -> None:
        """Send no new requests; those under way finish, and then it closes."""
        self._retired = True
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._retired and self.alive and not self._streams:
            self.close("not needed any more")

    def pump(self) -> None:
        """Hand out what came and send what is due; after every input."""
        http = self._channel.http
        while (event := http.poll_event()) is not None:
            match event:
                case GoneAway(reason=reason, last=last):
                    self._retired = True
                    for number in [n for n in self._streams if n > last]:
                        self._streams[number].handle(Ended(number, reason))
                case Body(stream=number, size=size) if number not in self._streams:
                    http.consumed(number, size)
                case _ if (stream := self._streams.get(event.stream)) is not None:
                    stream.handle(event)
                case _:
                    pass  # the rest of a stream that was given up
        if (data := self._channel.poll_transmit()) is not None and not self._writer.is_closing():
            self._writer.write(data)
        self._end_if_idle()

    def close(self, reason: str) -> None:
        """Drop the connection; every open request fails with ``reason``."""
        self.alive = False
        for number, stream in list(self._streams.items()):
            stream.handle(Ended(number, reason))
        self._writer.transport.abort()

    def own_address(self) -> IPAddress | None:
        """Our end's address; ``None`` if there is none any more."""
        name = self._writer.get_extra_info("sockname")
        return unmap(ip_address(name[0].partition("%")[0])) if name else None

    def check(self) -> None:
        """End soon unless the server says something."""
        if self.alive:
            now = self._now()
            self._liveness.ask(now)
            self._channel.http.ping()
            self.pump()
            if self._limit is not None:
                left = self._liveness.next_timeout() - now
                self._limit.reschedule(asyncio.get_running_loop().time() + left)

    async def aclose(self) -> None:
        """Drop the connection and wait for its task."""
        self.close("closed")
        await self._tasks.close()

    async def _read(self) -> None:
        reason = "the control server closed the connection"
        try:
            data = self._first
            while data or (data := await self._next()):
                self._liveness.heard(self._now())
                self._channel.receive_untrusted(data)
                self.pump()
                data = b""
        except (BadPacket, OSError) as error:
            reason = f"the control connection broke: {error}"
        except TailnetError as error:
            reason = str(error)
        self.pump()
        self.close(reason)

    async def _next(self) -> bytes:
        """The next bytes; empty at the end.

        Raises:
            OSError: it broke.
            RemoteProtocolError: nobody is there.
        """
        while True:
            limit = asyncio.timeout(max(0.0, self._liveness.next_timeout() - self._now()))
            try:
                async with limit:
                    self._limit = limit
                    return await self._reader.read(READ_SIZE)
            except TimeoutError:  # of ours, or of the kernel
                if not limit.expired():
                    raise
                if self._liveness.handle_timeout(self._now()):
                    self._channel.http.ping()
                    self.pump()
            finally:
                self._limit = None
