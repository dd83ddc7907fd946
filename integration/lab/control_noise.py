"""The server's side of a Noise connection: records, HTTP/2, one task per request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tailnet.agent.control.channel import Channel
from tailnet.agent.errors import BadPacket
from tailnet.agent.http2.connection import Body, Ended, GoneAway, Head
from tailnet.agent.keys import MachinePublic
from tailnet.agent.noise.control import Accepted

log = logging.getLogger("lab.control")

MAX_BODY = 1 << 20  # bytes of one request
READ_SIZE = 64 << 10  # bytes


class Request:
    """One request and the way to answer it.

    Attributes:
        machine: who asks, proven by the handshake.
    """

    def __init__(self, server: "NoiseServer", stream: int, method: str, path: str) -> None:
        self._server = server
        self._stream = stream
        self.method = method
        self.path = path
        self.machine: MachinePublic = server.machine
        self.body = b""
        self.task: asyncio.Task[None] | None = None
        self.drained = asyncio.Event()

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Answer at once."""
        self.start(status, {**(headers or {}), "content-length": str(len(body))})
        self._server.channel.http.write(self._stream, body, end=True)
        self._server.pump()

    def start(self, status: int, headers: dict[str, str] | None = None) -> None:
        """Send the head of an answer."""
        self._server.channel.http.respond(self._stream, status, headers or {}, end=False)
        self._server.pump()

    @property
    def writer(self) -> asyncio.StreamWriter:
        """The connection it came on."""
        return self._server.writer

    def seal(self, plaintext: bytes) -> bytes:
        """Records that carry anything at all to the client, be it HTTP/2 or not."""
        return self._server.channel._records.seal(plaintext)

    async def write(self, data: bytes) -> None:
        """Send a piece of the answer and wait until the client's window took it."""
        self._server.channel.http.write(self._stream, data)
        self._server.pump()
        while self._server.channel.http.queued(self._stream):
            self.drained.clear()
            await self.drained.wait()
        await self._server.writer.drain()

    def end(self) -> None:
        """Nothing more follows."""
        self._server.channel.http.write(self._stream, b"", end=True)
        self._server.pump()


class NoiseServer:
    """One client's connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        accepted: Accepted,
        early: bytes,
        handler: Callable[[Request], Awaitable[None]],
    ) -> None:
        self.machine = accepted.machine
        self.channel = Channel(accepted.keys, client=False, early=early)
        self.writer = writer
        self._reader = reader
        self._handler = handler
        self._requests: dict[int, Request] = {}
        writer.write(accepted.response)

    async def serve(self) -> None:
        """Until the client closes or misbehaves; requests under way are cancelled then."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.pump()
                while data := await self._reader.read(READ_SIZE):
                    self.channel.receive_untrusted(data)
                    self.pump()
                    for request in list(self._requests.values()):
                        request.drained.set()
                for request in self._requests.values():
                    if request.task is not None:
                        request.task.cancel()
        except* (BadPacket, OSError) as errors:
            log.debug("connection of %s ended: %s", self.machine.short, errors.exceptions[0])

    def pump(self) -> None:
        """Act on what came, send what is due."""
        http = self.channel.http
        while (event := http.poll_event()) is not None:
            match event:
                case Head(stream=stream, headers=headers):
                    method, path = headers.get(":method", ""), headers.get(":path", "")
                    self._requests[stream] = Request(self, stream, method, path.split("?")[0])
                case Body(stream=stream, data=data, size=size):
                    http.consumed(stream, size)
                    self._collect(stream, data)
                case Ended(stream=stream, reason=reason):
                    self._ended(stream, reason)
                case GoneAway():
                    pass  # it will close
        if (due := self.channel.poll_transmit()) is not None and not self.writer.is_closing():
            self.writer.write(due)

    def _collect(self, stream: int, data: bytes) -> None:
        request = self._requests.get(stream)
        if request is not None:
            request.body += data
            if len(request.body) > MAX_BODY:
                del self._requests[stream]
                self.channel.http.cancel(stream)

    def _ended(self, stream: int, reason: str) -> None:
        request = self._requests.get(stream)
        if request is None:
            return
        if not reason:
            request.task = self._group.create_task(self._answer(request, stream))
        elif request.task is not None:
            request.task.cancel()
        else:
            del self._requests[stream]

    async def _answer(self, request: Request, stream: int) -> None:
        try:
            await self._handler(request)
        except BadPacket as error:
            request.reply(400, f"{error}\n".encode())
        finally:
            self._requests.pop(stream, None)
