"""DNS over HTTP/2: one connection for each server, kept for as long as it is used.

Known resolvers are dialled at their known addresses, all of them, without asking for any name.
TLS is 1.3 or newer, and the name in the URL must be certified.  A peer is asked by HTTP/1.1
without TLS, each question by a connection of its own: WireGuard is below.

Source: RFC 8484; tailscale net/dns/resolver/forwarder.go, getKnownDoHClientForProvider and sendDoH.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohappyeyeballs

from tailnet.agent import clock
from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.dns.upstream import Https
from tailnet.agent.errors import BadPacket, LocalProtocolError
from tailnet.agent.http2.connection import Body, Ended, GoneAway, Head, Http2
from tailnet.agent.httpd.response import read_body_untrusted, split_head_untrusted
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.dns")

IDLE = 10.0  # seconds without a question until a connection is closed
PATIENCE = 10.0  # seconds for a connection, and again for an answer
STAGGER = 0.05  # seconds until the next address is tried as well
MAX_ANSWER = 65535  # bytes
MAX_SERVERS = 32  # connections
MESSAGE = "application/dns-message"
_HEADERS = {"content-type": MESSAGE, "accept": MESSAGE}
_READ = 64 << 10  # bytes


Dial = Callable[[AddrPort], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class _Target(NamedTuple):
    """Where the requests go."""

    tls: bool
    host: str
    authority: str
    path: str
    port: int


def _target(url: str) -> _Target:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    try:
        port = parts.port or (443 if tls else 80)
    except ValueError:
        port = 0
    if not parts.hostname or not port:
        msg = f"{url} is no address"
        raise OSError(msg)
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    return _Target(tls, parts.hostname, parts.netloc, target, port)


class HttpsClient:
    """Posts questions; an ``AskHttps``.

    Args:
        verifying: makes the TLS context, when the first one is needed.
        dial: reaches a peer; through the kernel if not given.
    """

    def __init__(
        self,
        verifying: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        dial: Dial | None = None,
    ) -> None:
        self._verifying = verifying
        self._dial_peer = dial or _dial_peer
        self._context: ssl.SSLContext | None = None
        self._connections: dict[Https, _Connection] = {}
        self._opening: dict[Https, asyncio.Lock] = {}

    async def __call__(self, to: Https, message: bytes) -> bytes:
        """The answer to ``message``.

        Raises:
            OSError: there is none; the text says why.
        """
        target = _target(to.url)
        try:
            if not target.tls:
                async with asyncio.timeout(PATIENCE):
                    return await _post_plain(target, message, self._dial_peer)
            async with asyncio.timeout(PATIENCE):
                connection = await self._connection(to, target)
            async with asyncio.timeout(PATIENCE):
                return await connection.post(target, message)
        except TimeoutError:
            msg = f"{target.host} does not answer"
            raise OSError(msg) from None

    async def start(self) -> None:
        """Nothing to do: servers are dialled when they are asked."""

    async def close(self) -> None:
        """Hang up on everybody."""
        for connection in list(self._connections.values()):
            await connection.aclose()
        self._connections.clear()

    async def _connection(self, to: Https, target: _Target) -> "_Connection":
        lock = self._opening.setdefault(to, asyncio.Lock())
        try:
            async with lock:
                known = self._connections.get(to)
                if known is None or not known.usable:
                    if len(self._connections) >= MAX_SERVERS:
                        await self._drop_one()
                    known = self._connections[to] = await self._dial(to, target)
                return known
        finally:
            if not lock.locked():
                self._opening.pop(to, None)

    async def _drop_one(self) -> None:
        for to, connection in list(self._connections.items()):
            if not connection.usable or not connection.busy:
                del self._connections[to]
                await connection.aclose()
                return
        msg = "too many servers are asked at once"
        raise OSError(msg)

    async def _dial(self, to: Https, target: _Target) -> "_Connection":
        infos = [_info(ip, target.port) for ip in to.dial]
        sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=STAGGER)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=self._tls(), server_hostname=target.host
            )
        except BaseException:
            sock.close()
            raise
        chosen = writer.get_extra_info("ssl_object")
        if chosen is not None and chosen.selected_alpn_protocol() != "h2":
            writer.transport.abort()
            msg = f"{target.host} does not speak HTTP/2"
            raise OSError(msg)
        return _Connection(reader, writer)

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._verifying()
            self._context.minimum_version = ssl.TLSVersion.TLSv1_3
            self._context.set_alpn_protocols(["h2"])
        return self._context


async def _dial_peer(to: AddrPort) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(str(to.ip), to.port)


async def _post_plain(target: _Target, message: bytes, dial: Dial) -> bytes:
    """Ask a peer at its address; OSError if that is no answer."""
    try:
        ip = ip_address(target.host)
    except ValueError:
        msg = f"{target.host} is no address"
        raise OSError(msg) from None
    reader, writer = await dial(AddrPort(ip, target.port))
    with contextlib.closing(writer):
        head = (
            f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\n"
            f"Content-Type: {MESSAGE}\r\nAccept: {MESSAGE}\r\n"
            f"Content-Length: {len(message)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + message)
        data, eof = b"", False
        try:
            while not eof:
                data += (more := await reader.read(_READ))
                eof = not more
                if (split := split_head_untrusted(data)) is None:
                    continue
                body = read_body_untrusted(*split, eof=eof)
                if body is not None:
                    kind = split[0].headers.get("content-type", "")
                    return _checked(target, str(split[0].status), kind, body)
        except BadPacket as error:
            msg = f"{target.host}: {error}"
            raise OSError(msg) from None
    msg = f"{target.host} hung up"
    raise OSError(msg)


_Info = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


def _info(ip: IPAddress, port: int) -> _Info:
    if ip.version == 4:
        return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(ip), port))
    return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(ip), port, 0, 0))


class _Answer:
    """What has come of one request."""

    __slots__ = ("body", "done", "head")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.body = b""
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def end(self, reason: str) -> None:
        """All is here, or nothing more will come."""
        if not self.done.done():
            self.done.set_result(reason)


class _Connection:
    """An open connection; closes itself when nobody has used it for a while."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = Http2(client=True)
        self._answers: dict[int, _Answer] = {}
        self._alive = True
        self._gone = False
        self._used = clock.now()
        self._tasks = Tasks()
        _ = self._tasks.start("DNS over HTTPS", self._read())

    @property
    def usable(self) -> bool:
        """It takes one more question."""
        return self._alive and not self._gone and self._http.has_room

    @property
    def busy(self) -> bool:
        """A question is being asked."""
        return bool(self._answers)

    async def post(self, target: _Target, message: bytes) -> bytes:
        """One question.

        Raises:
            OSError: no answer, or none that is one.
        """
        try:
            number = self._http.open("POST", target.path, target.authority, message, _HEADERS)
        except LocalProtocolError as error:
            raise OSError(str(error)) from None
        answer = self._answers[number] = _Answer()
        self._pump()
        try:
            reason = await answer.done
        finally:
            del self._answers[number]
            if not answer.done.done() or answer.done.cancelled():
                self._http.cancel(number)
                self._pump()
            self._used = clock.now()
        return _check(target, answer, reason)

    async def aclose(self) -> None:
        """Hang up."""
        self._end("closed")
        await self._tasks.close()

    async def _read(self) -> None:
        reason = "the server hung up"
        try:
            self._pump()
            while data := await self._next():
                self._http.receive_untrusted(data)
                self._pump()
        except (OSError, BadPacket) as error:
            reason = str(error)
        self._end(reason)

    async def _next(self) -> bytes:
        """The next bytes; empty at the end, and when nobody has asked for :data:`IDLE`."""
        while True:
            left = IDLE if self._answers else self._used + IDLE - clock.now()
            limit = asyncio.timeout(max(0.0, left))
            try:
                async with limit:
                    return await self._reader.read(_READ)
            except TimeoutError:
                if not limit.expired():
                    raise
                if not self._answers and clock.now() >= self._used + IDLE:
                    return b""

    def _pump(self) -> None:
        while (event := self._http.poll_event()) is not None:
            match event:
                case Head(stream=number) as head if number in self._answers:
                    self._answers[number].head = head
                case Body(stream=number, data=data, size=size):
                    self._http.consumed(number, size)
                    if (answer := self._answers.get(number)) is not None:
                        answer.body += data
                        if len(answer.body) > MAX_ANSWER:
                            self._http.cancel(number)
                            answer.end("its answer is too long")
                case Ended(stream=number, reason=reason) if number in self._answers:
                    self._answers[number].end(reason)
                case GoneAway(last=last, reason=reason):
                    self._gone = True
                    for number in [n for n in self._answers if n > last]:
                        self._answers[number].end(reason)
                case _:
                    pass  # of a question that was given up
        out = self._http.poll_transmit()
        if out is not None and not self._writer.is_closing():
            self._writer.write(out)

    def _end(self, reason: str) -> None:
        self._alive = False
        for answer in self._answers.values():
            answer.end(reason)
        with contextlib.suppress(OSError):
            self._writer.transport.abort()


def _check(target: _Target, answer: _Answer, reason: str) -> bytes:
    """The message in an answer, if it is one."""
    if reason:
        msg = f"{target.host}: {reason}"
        raise OSError(msg)
    headers = answer.head.headers if answer.head is not None else {}
    status, kind = headers.get(":status", ""), headers.get("content-type", "")
    return _checked(target, status, kind, answer.body)


def _checked(target: _Target, status: str, kind: str, body: bytes) -> bytes:
    kind = kind.partition(";")[0].strip().lower()
    if status != "200":
        msg = f"{target.host}: it answered {status}"
        raise OSError(msg)
    if kind != MESSAGE:
        msg = f"{target.host}: it answered with {kind[:64]!r}"
        raise OSError(msg)
    return body
