"""The LocalAPI on its unix socket: who is calling, bounds, and the stream of the bus."""

import asyncio
import contextlib
import logging
import os
import pwd
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from tailnet.agent.control.register import CAPABILITY_VERSION
from tailnet.agent.errors import UserError
from tailnet.agent.localapi.bus import Subscription
from tailnet.agent.localapi.listen.aio import SocketFile
from tailnet.agent.localapi.routes import (
    BASE_DIAL,
    DIAL_PROTOCOL,
    Access,
    Backend,
    Request,
    Response,
    Route,
    access_of,
    find,
    parse_dial,
    parse_mask,
    refuse_headers,
    text,
)
from tailnet.agent.localapi.schema import VERSION, encode
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.localapi")

MAX_BODY = 1 << 20  # bytes of a request
MAX_CONNECTIONS = 512  # in all; root and the daemon's own user get in beyond that
MAX_CONNECTIONS_PER_USER = 64
REQUEST_TIMEOUT = 60.0  # seconds
SHUTDOWN_TIMEOUT = 1.0  # seconds that answers under way get

PeerUid = Callable[[socket.socket], int | None]


def peer_uid(sock: socket.socket) -> int | None:
    """User id of the process at the other end when it connected; ``None`` if unknown."""
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return None
    _, uid, _ = struct.unpack("3i", data)
    return uid if uid >= 0 else None


class LocalServer:
    """Serves one backend on one socket, from ``start`` to ``close``."""

    def __init__(
        self,
        backend: Backend,
        path: Path,
        *,
        version: str = VERSION,
        cap: int = CAPABILITY_VERSION,
        peer_uid: PeerUid = peer_uid,
    ) -> None:
        self._backend = backend
        self._path = path
        self._peer_uid = peer_uid
        self._headers = {
            "Server": "tailnetd",
            "Tailscale-Version": version,
            "Tailscale-Cap": str(cap),
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
        }
        self._operator: tuple[str, int | None] = "", None
        self._watchers: set[Subscription] = set()
        self._tasks = Tasks()
        self._socket: SocketFile | None = None
        self._server: web.Server | None = None
        self._accepting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            UserError: another daemon is there, or the socket cannot be made.
        """
        self._socket = SocketFile(self._path)
        listener = self._socket.open()
        self._server = web.Server(self._handle, handler_cancellation=True, keepalive_timeout=30)
        self._accepting = self._tasks.start("localapi accept", self._accept(listener, self._server))
        log.info("listening on %s", self._path)

    async def close(self) -> None:
        """Stop serving and remove the socket.  Idempotent."""
        await self._tasks.close()
        for watcher in tuple(self._watchers):
            watcher.close()
        if self._server is not None:
            await self._server.shutdown(SHUTDOWN_TIMEOUT)
            self._server = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # connections

    async def _accept(self, listener: socket.socket, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                conn, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("cannot accept a LocalAPI connection: %s", error)
                await asyncio.sleep(1)
                continue
            if self._full(conn, server):
                conn.close()
                continue
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(server, conn)

    def _full(self, conn: socket.socket, server: web.Server) -> bool:
        uid = self._peer_uid(conn)
        if uid in (0, os.geteuid()):
            return False
        transports = [h.transport for h in server.connections if h.transport is not None]
        if len(transports) < MAX_CONNECTIONS_PER_USER:
            return False
        mine = sum(self._peer_uid(t.get_extra_info("socket")) == uid for t in transports)
        return len(transports) >= MAX_CONNECTIONS or mine >= MAX_CONNECTIONS_PER_USER

    # requests

    async def _handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        headers = raw.headers
        refusal = refuse_headers(
            headers.get("Host", ""), headers.get("Origin"), headers.get("Referer")
        )
        if refusal is not None:
            return self._plain(refusal)
        found = find(raw.method, raw.path, self._access(raw))
        if isinstance(found, Response):
            return self._plain(found)
        try:
            if found.handler is None:
                return await (self._dial(raw) if raw.path == BASE_DIAL else self._watch(raw))
            return self._plain(await self._answer(raw, found))
        except UserError as error:
            return self._plain(text(400, str(error)))
        except TimeoutError:
            return self._plain(text(504, "the daemon took too long"))

    def _access(self, raw: web.BaseRequest) -> Access:
        sock = raw.transport.get_extra_info("socket") if raw.transport else None
        uid = self._peer_uid(sock) if sock is not None else None
        return access_of(uid, os.geteuid(), self._operator_uid())

    def _operator_uid(self) -> int | None:
        """User id of the operator; asked from the system once per name, since that may be slow."""
        name = self._backend.operator()
        if name != self._operator[0]:
            try:
                self._operator = name, pwd.getpwnam(name).pw_uid
            except (KeyError, ValueError):
                return None
        return self._operator[1]

    async def _answer(self, raw: web.BaseRequest, route: Route) -> Response:
        if route.handler is None:
            return Response(404)
        async with asyncio.timeout(REQUEST_TIMEOUT):
            body = await _read(raw)
            if body is None:
                return text(413, "the request is too large")
            request = Request(raw.method, raw.path, dict(raw.query), body)
            if route.needs is Access.WRITE:
                return await self._uninterrupted(route, request)
            return await route.handler(self._backend, request)

    async def _uninterrupted(self, route: Route, request: Request) -> Response:
        """Finish what changes something even if the client goes away meanwhile."""
        done: list[Response | UserError] = []

        async def work() -> None:
            if route.handler is not None:
                try:
                    done.append(await route.handler(self._backend, request))
                except UserError as error:
                    done.append(error)

        await asyncio.wait({self._tasks.start(f"localapi {request.path}", work())})
        if not done:
            return text(500, "internal error; see the daemon's log")
        if isinstance(done[0], UserError):
            raise done[0]
        return done[0]

    def _plain(self, response: Response) -> web.Response:
        headers = {**self._headers, "Content-Type": response.content_type}
        return web.Response(status=response.status, body=response.body, headers=headers)

    async def _dial(self, raw: web.BaseRequest) -> web.StreamResponse:
        """Make a connection, and give it the socket that the request came by."""
        target = parse_dial(raw.headers)
        if isinstance(target, Response):
            return self._plain(target)
        transport = raw.transport
        async with asyncio.timeout(REQUEST_TIMEOUT):
            connection = await self._backend.dial(*target)
        sock = transport.get_extra_info("socket") if transport is not None else None
        if transport is None or sock is None or transport.is_closing():
            connection.abort()
            return web.Response(status=499)
        own = os.dup(sock.fileno())
        transport.abort()  # unsent there is nothing: the answer goes out below
        fields = {**self._headers, "Upgrade": DIAL_PROTOCOL, "Connection": "upgrade"}
        head = "HTTP/1.1 101 Switching Protocols\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in fields.items()
        )
        try:
            os.write(own, (head + "\r\n").encode())  # an idle socket takes these few bytes at once
        except OSError:
            os.close(own)
            connection.abort()
        else:
            connection.join(own, b"")
        return web.Response(status=101)

    async def _watch(self, raw: web.BaseRequest) -> web.StreamResponse:
        """One JSON object a line until either side has enough."""
        watcher = self._backend.watch(parse_mask(raw.query), os.urandom(8).hex())
        self._watchers.add(watcher)
        try:
            ready = asyncio.Event()
            watcher.on_ready(ready.set)
            stream = web.StreamResponse(
                headers={**self._headers, "Content-Type": "application/json"}
            )
            await stream.prepare(raw)
            with contextlib.suppress(ConnectionError):
                while not watcher.closed:
                    await ready.wait()
                    ready.clear()
                    lines = [encode(notify) + b"\n" for notify in watcher.take()]
                    if lines:
                        await stream.write(b"".join(lines))
                if rest := watcher.take():
                    await stream.write(b"".join(encode(notify) + b"\n" for notify in rest))
                await stream.write_eof()
            return stream
        finally:
            self._watchers.discard(watcher)
            watcher.close()


async def _read(raw: web.BaseRequest) -> bytes | None:
    body = bytearray()
    async for chunk in raw.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return bytes(body)
