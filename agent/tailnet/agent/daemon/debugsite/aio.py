"""The debug site on its socket."""

import asyncio
import io
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping

from tailnet.agent.addr import AddrPort
from tailnet.agent.daemon.debugsite.pages import HEADERS, index, parse_seconds, refuses_host
from tailnet.agent.errors import BadPacket, UserError
from tailnet.agent.httpd.aio import Client, Server
from tailnet.agent.httpd.conversation import Request
from tailnet.agent.localapi.interface import Metrics
from tailnet.agent.metrics.text import CONTENT_TYPE
from tailnet.agent.tasks import dump

log = logging.getLogger("tailnet.debugsite")

HTML = "text/html; charset=utf-8"
MAX_CLIENTS = 32
LINES = 60  # of a profile
GRACE = 0.5  # seconds that answers under way get at the end


class DebugSite:
    """Serves from ``start`` to ``close``, reads everything and changes nothing.

    Args:
        address: where; ``None``: nowhere.
        health: whether all is well, and lines for people.
    """

    def __init__(
        self,
        address: AddrPort | None,
        *,
        version: str,
        metrics: Metrics,
        health: Callable[[], tuple[bool, str]],
    ) -> None:
        self._address = address
        self._version = version
        self._metrics = metrics
        self._health = health
        self._listener: socket.socket | None = None
        self._profiling = False
        self._server = Server(
            self._handle,
            headers=HEADERS,
            admit=lambda _: sum(1 for _ in self._server.sockets()) < MAX_CLIENTS,
        )
        self._pages: Mapping[str, Callable[[Client, Request], Awaitable[None]]] = {
            "/": self._index,
            "/healthz": self._healthz,
            "/metrics": self._user_metrics,
            "/debug/metrics": self._all_metrics,
            "/debug/tasks": self._tasks,
            "/debug/profile": self._profile,
        }

    @property
    def address(self) -> AddrPort | None:
        """Where it listens; ``None``: nowhere."""
        if self._listener is None:
            return None
        return AddrPort.of(*self._listener.getsockname()[:2])

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            UserError: the system refuses.
        """
        if self._address is None:
            return
        family = socket.AF_INET if self._address.ip.version == 4 else socket.AF_INET6
        listener = self._listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((str(self._address.ip), self._address.port))
            listener.listen()
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            msg = f"--debug: cannot listen on {self._address}: {reason}; choose another address"
            raise UserError(msg) from None
        self._server.serve(listener)
        log.info("debug site on http://%s/", self.address)
        if not self._address.ip.is_loopback:
            log.warning("--debug=%s: others can read this, names of peers too", self._address)

    async def close(self) -> None:
        """Stop listening."""
        await self._server.close(GRACE)
        if self._listener is not None:
            self._listener.close()

    async def _handle(self, client: Client, request: Request) -> None:
        page = self._pages.get(request.path)
        if refuses_host(request.host):
            await client.answer(403, b"ask by address, or as localhost\n")
        elif page is None:
            await client.answer(404, b"not found\n")
        elif request.method not in ("GET", "HEAD"):
            await client.answer(405, b"only GET is allowed\n")
        else:
            await page(client, request)

    async def _index(self, client: Client, _: Request) -> None:
        await client.answer(200, index(self._version).encode(), HTML)

    async def _healthz(self, client: Client, _: Request) -> None:
        well, text = self._health()
        await client.answer(200 if well else 503, text.encode())

    async def _user_metrics(self, client: Client, _: Request) -> None:
        await client.answer(200, (await self._metrics.user()).encode(), CONTENT_TYPE)

    async def _all_metrics(self, client: Client, _: Request) -> None:
        await client.answer(200, (await self._metrics.internal()).encode(), CONTENT_TYPE)

    async def _tasks(self, client: Client, _: Request) -> None:
        await client.answer(200, dump().encode())

    async def _profile(self, client: Client, request: Request) -> None:
        """Of the event loop's thread; one at a time, since it slows everything down."""
        import cProfile  # noqa: PLC0415 - nearly no daemon is ever asked for one
        import pstats  # noqa: PLC0415

        try:
            seconds = parse_seconds(request.query.get("seconds", ""))
        except BadPacket as error:
            await client.answer(400, f"{error}\n".encode())
            return
        if self._profiling:
            await client.answer(409, b"there is a profile already; try again later\n")
            return
        self._profiling = True
        profile = cProfile.Profile()
        try:
            profile.enable()
            try:
                await asyncio.sleep(seconds)
            finally:
                profile.disable()
        finally:
            self._profiling = False
        out = io.StringIO()
        stats = pstats.Stats(profile, stream=out)
        stats.sort_stats("cumulative").print_stats(LINES)
        await client.answer(200, out.getvalue().encode())
