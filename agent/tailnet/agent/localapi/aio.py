"""The LocalAPI on its unix socket: who is calling, bounds, and the stream of the bus."""

import asyncio
import logging
import os
import pwd
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from tailnet.agent._version import CAPABILITY_VERSION
from tailnet.agent.datapath.pcapng import CONTENT_TYPE as PCAPNG
from tailnet.agent.errors import UserError
from tailnet.agent.httpd.aio import USUAL, Client, ClientGone, Limits, Server
from tailnet.agent.httpd.conversation import Request as Head
from tailnet.agent.localapi.bus import Subscription
from tailnet.agent.localapi.exchange import (
    JSON,
    TEXT,
    Access,
    Request,
    Response,
    reason_untrusted,
    text,
)
from tailnet.agent.localapi.handlers.experiments import begin_portmap
from tailnet.agent.localapi.interface import Backend, Stream
from tailnet.agent.localapi.listen.aio import SocketFile
from tailnet.agent.localapi.routes import (
    BASE_CAPTURE,
    BASE_DIAL,
    BASE_LOGTAP,
    BASE_PORTMAP,
    Route,
    access_of,
    find,
    refuse_headers,
)
from tailnet.agent.localapi.schema.basics import VERSION, encode
from tailnet.agent.localapi.upgrades import DIAL_PROTOCOL, parse_dial, parse_mask
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
        peer_uid: PeerUid = peer_uid,
        limits: Limits = USUAL,
    ) -> None:
        self._backend = backend
        self._path = path
        self._peer_uid = peer_uid
        headers = {
            "Server": "tailnetd",
            "Tailscale-Version": version,
            "Tailscale-Cap": str(CAPABILITY_VERSION),
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
        }
        self._operator: tuple[str, int | None] = "", None
        self._watchers: set[Subscription] = set()
        self._tasks = Tasks()
        self._socket: SocketFile | None = None
        self._server = Server(self._handle, headers=headers, admit=self._admit, limits=limits)

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            UserError: another daemon is there, or the socket cannot be made.
        """
        self._socket = SocketFile(self._path)
        self._server.serve(self._socket.open())
        log.info("listening on %s", self._path)

    async def close(self) -> None:
        """Stop serving and remove the socket.  Idempotent."""
        await self._tasks.close()
        for watcher in tuple(self._watchers):
            watcher.close()
        await self._server.close(SHUTDOWN_TIMEOUT)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _admit(self, sock: socket.socket) -> bool:
        uid = self._peer_uid(sock)
        if uid in (0, os.geteuid()):
            return True
        others = [self._peer_uid(other) for other in self._server.sockets()]
        return len(others) < MAX_CONNECTIONS and others.count(uid) < MAX_CONNECTIONS_PER_USER

    async def _handle(self, client: Client, head: Head) -> None:
        if (response := await self._response(client, head)) is not None:
            await client.answer(response.status, response.body, response.content_type)

    async def _response(self, client: Client, head: Head) -> Response | None:
        """What to answer; ``None`` where that has been done already."""
        headers = head.headers
        refusal = refuse_headers(head.host, headers.get("origin"), headers.get("referer"))
        if refusal is not None:
            return refusal
        uid = self._peer_uid(client.sock)
        found = find(head.method, head.path, access_of(uid, os.geteuid(), self._operator_uid()))
        if isinstance(found, Response):
            return found
        why = reason_untrusted(headers.get("x-tailscale-reason", ""))
        if why and found.needs is Access.WRITE:  # others are not to fill the log
            log.info("%s %s of user %s, who says: %r", head.method, head.path, uid, why)
        try:
            if found.handler is not None:
                return await self._answer(client, head, found)
            streams = {
                BASE_DIAL: self._dial,
                BASE_CAPTURE: self._capture,
                BASE_LOGTAP: self._logtap,
                BASE_PORTMAP: self._portmap,
            }
            return await streams.get(head.path, self._watch)(client, head)
        except UserError as error:
            return text(400, str(error))
        except TimeoutError:
            return text(504, "the daemon took too long")

    def _operator_uid(self) -> int | None:
        """User id of the operator; asked from the system once per name, since that may be slow."""
        name = self._backend.operator()
        if name != self._operator[0]:
            try:
                self._operator = name, pwd.getpwnam(name).pw_uid
            except (KeyError, ValueError):
                return None
        return self._operator[1]

    async def _answer(self, client: Client, head: Head, route: Route) -> Response:
        if route.handler is None:
            return Response(404)
        request = Request(head.method, head.path, head.query, await client.read(MAX_BODY))
        async with asyncio.timeout(REQUEST_TIMEOUT):
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

    async def _dial(self, client: Client, head: Head) -> Response | None:
        """Make a connection, and give it the socket that the request came by."""
        target = parse_dial(head.headers)
        if isinstance(target, Response):
            return target
        await client.read(0)
        async with asyncio.timeout(REQUEST_TIMEOUT):
            connection = await self._backend.dial(*target)
        try:
            own, early = client.leave(DIAL_PROTOCOL)
        except ClientGone:
            connection.abort()
            raise
        connection.join(own, early)
        return None

    async def _capture(self, client: Client, _: Head) -> None:
        """Packets until the client goes away."""
        await self._stream(client, self._backend.capture, PCAPNG)

    async def _logtap(self, client: Client, _: Head) -> None:
        """The log until the client goes away."""
        await self._stream(client, self._backend.process.logtap, JSON)

    async def _portmap(self, client: Client, head: Head) -> None:
        """What the router says until it gave a port."""
        request = Request(head.method, head.path, head.query, b"")
        await self._stream(client, lambda: begin_portmap(self._backend, request), TEXT)

    @staticmethod
    async def _stream(client: Client, begin: Callable[[], Stream], content_type: str) -> None:
        await client.read(0)
        stream = begin()
        try:
            await client.begin(content_type)
            while data := await stream.read():
                await client.write(data)
            await client.end()
        finally:
            stream.close()

    async def _watch(self, client: Client, head: Head) -> None:
        """One JSON object a line until either side has enough."""
        watcher = await self._backend.watch(parse_mask(head.query), os.urandom(8).hex())
        self._watchers.add(watcher)
        try:
            ready = asyncio.Event()
            watcher.on_ready(ready.set)
            await client.begin(JSON)
            while not watcher.closed:
                await ready.wait()
                ready.clear()
                await self._write(client, watcher)
            await self._write(client, watcher)
            await client.end()
        finally:
            self._watchers.discard(watcher)
            watcher.close()

    @staticmethod
    async def _write(client: Client, watcher: Subscription) -> None:
        if notifications := watcher.take():
            await client.write(b"".join(encode(notify) + b"\n" for notify in notifications))
