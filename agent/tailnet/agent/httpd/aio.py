"""The HTTP server's sockets: accepting, time, back-pressure, and an end for every connection."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

from tailnet.agent import clock
from tailnet.agent.addr import IPAddress
from tailnet.agent.httpd.conversation import BadRequest, Conversation, Request, Step, http_date
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.http")

TEXT = "text/plain; charset=utf-8"
INTERNAL = "internal error; see the daemon's log"
BUSY = b"too many connections; try again later\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take: bytes, and seconds."""

    head: int = 32 << 10
    ahead: int = 64 << 10  # sent by the client before we ask for it
    head_time: float = 10.0
    body_time: float = 30.0
    idle_time: float = 30.0  # between requests
    stall_time: float = 60.0  # the client takes no byte of an answer
    linger_time: float = 2.0  # for the client to read the last answer and hang up


USUAL = Limits()


class ClientGone(ConnectionError):
    """The client has hung up, or takes nothing."""


Handler = Callable[["Client", Request], Awaitable[None]]


class Server:
    """Serves one handler on any number of listeners, from ``serve`` to ``close``.

    A handler is cancelled when its client goes away.  ``headers`` go into each answer.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        headers: Mapping[str, str],
        admit: Callable[[socket.socket], bool],
        limits: Limits = USUAL,
    ) -> None:
        self.handler = handler
        self.headers = headers
        self.limits = limits
        self.closing = False
        self._admit = admit
        self._accepting = Tasks()
        self._serving = Tasks()
        self._connections: set[Client] = set()

    def serve(self, listener: socket.socket) -> None:
        """Accept from now on; ``listener`` stays the caller's."""
        _ = self._accepting.start("http accept", self._accept(listener))

    def sockets(self) -> Iterator[socket.socket]:
        """Of those connected."""
        return (connection.sock for connection in self._connections)

    def clients(self) -> Iterator["Client"]:
        """Those connected."""
        return iter(self._connections)

    async def refuse(self) -> None:
        """Accept nobody more; only then may a listener be closed.  Idempotent."""
        await self._accepting.close()

    async def close(self, grace: float) -> None:
        """End what is idle at once and the rest within ``grace`` seconds.  Idempotent."""
        self.closing = True
        await self.refuse()
        busy = [task for c in tuple(self._connections) if (task := c.stop()) is not None]
        if busy:
            await asyncio.wait(busy, timeout=grace)
        await self._serving.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("cannot accept a connection: %s", error)
                await asyncio.sleep(1)
                continue
            await self.take(sock)

    async def take(self, sock: socket.socket) -> None:
        """Serve one connection, if it is admitted; it is the server's from now on."""
        if self._admit(sock):
            await self.adopt(sock)
        else:
            self.turn_away(sock)

    def turn_away(self, sock: socket.socket) -> None:
        """Say that it is one too many, and close it."""
        with sock, contextlib.suppress(OSError):
            sock.send(Conversation(0).answer(503, (), BUSY, close=True))

    async def adopt(self, sock: socket.socket, peer: IPAddress | None = None) -> None:
        """Serve one that was admitted; ``peer``: who it is, where the socket does not say."""
        with contextlib.suppress(OSError):
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: Client(self, peer), sock)

    def begin(self, connection: "Client") -> asyncio.Task[None]:
        """For connections: run until the end."""
        self._connections.add(connection)
        return self._serving.start("http connection", connection.run())

    def end(self, connection: "Client") -> None:
        """For connections: it is over."""
        self._connections.discard(connection)


class Client(asyncio.Protocol):
    """One connection; ``sock`` is its socket, to ask things of; ``peer`` as :meth:`Server.adopt`.

    Its task reads, handles and answers, one request after the other.  Handlers use the methods
    from ``read`` on; each raises :class:`ClientGone` where there is nobody to talk to any more.
    """

    sock: socket.socket

    def __init__(self, server: Server, peer: IPAddress | None) -> None:
        self._server = server
        self.peer = peer
        self._limits = server.limits
        self._conversation = Conversation(server.limits.head)
        self._inbox = bytearray()
        self._ended = self._switched = False
        self._handling: Request | None = None
        self._news = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    # from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The task begins."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(transport)
        self._transport = transport
        self.sock = transport.get_extra_info("socket")
        if self.sock.family != socket.AF_UNIX:
            # asyncio leaves it out where a listener was made without naming TCP; a stream's second
            # piece would wait for the client's delayed acknowledgement of the first, 40 ms.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._task = self._server.begin(self)

    def data_received(self, data: bytes) -> None:
        """Keep it until it is asked for, within bounds."""
        self._inbox += data
        if len(self._inbox) > self._limits.ahead:
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        """Whoever asks nothing more wants no answer, or has it soon."""
        self._gone()
        return True  # our side is still open: there may be an answer to finish

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._gone()
        self._drained.set()
        self._server.end(self)

    def pause_writing(self) -> None:
        """The client is behind."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._drained.set()

    def _gone(self) -> None:
        self._ended = True
        self._news.set()
        if self._handling is not None and not self._switched:
            self._task.cancel()

    # the life of a connection

    async def run(self) -> None:
        """Until either side has enough."""
        try:
            while await self._serve_one():
                pass
            if not self._switched:
                await self._linger()
        except ClientGone:
            pass
        finally:
            self._transport.abort()

    def stop(self) -> asyncio.Task[None] | None:
        """End between requests; otherwise the task that will."""
        if self._handling is None:
            self._task.cancel()
        return self._task

    async def _serve_one(self) -> bool:
        """Whether another request may follow."""
        try:
            self._handling = await self._head()
            if self._handling is None:
                return False
            await self._server.handler(self, self._handling)
            if not self._switched and self._conversation.may_answer:
                log.error("no answer to %s %s", self._handling.method, self._handling.path)
                await self._fail(500, INTERNAL)
        except BadRequest as error:
            await self._fail(error.status, str(error))
        except ClientGone:
            raise
        except Exception:
            log.exception("cannot answer a request")
            await self._fail(500, INTERNAL)
        self._handling = None
        return not self._server.closing and self._conversation.next_request()

    async def _head(self) -> Request | None:
        try:
            if not self._conversation.unread:
                async with asyncio.timeout(self._limits.idle_time):
                    await self._arrival()
        except TimeoutError:
            return None
        try:
            async with asyncio.timeout(self._limits.head_time):
                step = await self._next()
        except TimeoutError:
            raise BadRequest(408, "the request's head did not arrive in time") from None
        return step if isinstance(step, Request) else None

    async def _next(self) -> Request | bytes | Step:
        while (step := self._conversation.next_untrusted()) is Step.NEED_DATA:
            await self._arrival()
            self._feed()
        return step

    async def _arrival(self) -> None:
        while not self._inbox and not self._ended:
            self._news.clear()
            await self._news.wait()

    def _feed(self) -> None:
        data = bytes(self._inbox)
        self._inbox.clear()
        self._transport.resume_reading()
        self._conversation.receive(data)

    async def _fail(self, status: int, message: str) -> None:
        if not self._conversation.may_answer:
            raise ClientGone
        await self._send(self._whole(status, message.encode(), TEXT, close=True))

    async def _linger(self) -> None:
        """Let the client read the answer before the socket, with what is unread, goes away."""
        self._transport.set_write_buffer_limits(0)
        await self._drain()
        if self._server.closing or self._ended:
            return
        with contextlib.suppress(OSError, NotImplementedError):
            self._transport.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_time):
                while not self._ended:
                    self._inbox.clear()
                    self._transport.resume_reading()
                    await self._arrival()

    # for handlers

    async def read(self, limit: int) -> bytes:
        """The whole body of the request.

        Raises:
            BadRequest: above ``limit`` bytes, too slow, or malformed; the server answers for it.
        """
        headers = {} if self._handling is None else self._handling.headers
        if int(headers.get("content-length", "0")) > limit:
            raise BadRequest(413, "the request is too large")
        if self._conversation.waits_for_continue:
            await self._send(self._conversation.proceed())
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_time):
                while isinstance(piece := await self._next(), bytes):
                    body += piece
                    if len(body) > limit:
                        raise BadRequest(413, "the request is too large")
        except TimeoutError:
            raise BadRequest(408, "the request's body did not arrive in time") from None
        return bytes(body)

    async def answer(self, status: int, body: bytes, content_type: str = TEXT) -> None:
        """A whole answer."""
        close = self._must_close()
        await self._send(self._whole(status, body, content_type, close=close))

    async def begin(self, content_type: str) -> None:
        """The head of a stream; ``write`` and ``end`` follow."""
        fields = self._fields(content_type)
        await self._send(self._conversation.begin(200, fields, close=self._must_close()))

    async def write(self, piece: bytes) -> None:
        """A piece of the stream; waits while the client is behind."""
        await self._send(self._conversation.data(piece))

    async def end(self) -> None:
        """The end of the stream."""
        await self._send(self._conversation.end())

    def leave(self, protocol: str) -> tuple[int, bytes]:
        """``101 Switching Protocols``: the socket, and what the client has sent beyond the request.

        The request's body has been read.  The file descriptor is the caller's.

        Raises:
            ClientGone: there is no socket any more.
        """
        fields = [*self._fields(None), ("Upgrade", protocol), ("Connection", "upgrade")]
        head = self._conversation.switch(fields)
        if self._transport.is_closing() or self._transport.get_write_buffer_size():
            raise ClientGone
        own = os.dup(self.sock.fileno())
        try:
            os.write(own, head)  # an idle socket takes these few bytes at once
        except OSError:
            os.close(own)
            raise ClientGone from None
        self._switched = True
        early = self._conversation.unread + self._inbox
        self._transport.abort()
        return own, early

    # within

    def _must_close(self) -> bool:
        """Whether the answer to come is the last: the client is in the middle of a body."""
        if self._conversation.owes_body and not self._conversation.waits_for_continue:
            self._feed_rest()
        return self._conversation.owes_body or self._server.closing

    def _feed_rest(self) -> None:
        """Pass over what has come of a body that nobody wants."""
        with contextlib.suppress(BadRequest):
            if self._inbox:
                self._feed()
            while isinstance(self._conversation.next_untrusted(), bytes):
                pass

    def _fields(self, content_type: str | None) -> list[tuple[str, str]]:
        fields = [*self._server.headers.items(), ("Date", http_date(clock.wall()))]
        return fields if content_type is None else [*fields, ("Content-Type", content_type)]

    def _whole(self, status: int, body: bytes, content_type: str, *, close: bool) -> bytes:
        fields = self._fields(content_type)
        return self._conversation.answer(status, fields, body, close=close)

    async def _send(self, data: bytes) -> None:
        self._transport.write(data)
        await self._drain()

    async def _drain(self) -> None:
        while not self._drained.is_set():
            before = self._transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(self._limits.stall_time):
                    await self._drained.wait()
            except TimeoutError:
                if self._transport.get_write_buffer_size() >= before:
                    raise ClientGone from None
        if self._transport.is_closing():
            raise ClientGone
