"""The shell that sends lite updates beside the map stream; only the newest state counts."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tailnet.agent.control.backoff import Backoff
from tailnet.agent.control.conn.aio import Connection
from tailnet.agent.control.register import one_line_untrusted, says_unknown_node
from tailnet.agent.errors import RemoteProtocolError, TailnetError

log = logging.getLogger("tailnet.control")

UPDATE_TIMEOUT = 15.0  # seconds


class Updates:
    """Sends what there is to say when it is news.

    Args:
        authority: ``host[:port]`` of the server.
        connect: the open connection.
        body: the newest request.
        allowed: set while anything may be sent.
        on_forgotten: the server says that it does not know this node.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of the client
        self,
        authority: str,
        *,
        connect: Callable[[], Awaitable[Connection]],
        body: Callable[[], bytes],
        allowed: asyncio.Event,
        random_bytes: Callable[[int], bytes],
        on_forgotten: Callable[[str], None],
    ) -> None:
        self._authority = authority
        self._connect = connect
        self._body = body
        self._allowed = allowed
        self._on_forgotten = on_forgotten
        self._backoff = Backoff(random_bytes)
        self._news = asyncio.Event()

    def note(self) -> None:
        """There is news."""
        self._news.set()

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await self._news.wait()
            await self._allowed.wait()
            self._news.clear()
            try:
                await self._send()
            except (TailnetError, OSError) as error:
                log.debug("update not delivered: %s", error)
                self._news.set()
                await asyncio.sleep(self._backoff.fail())
            else:
                self._backoff.reset()

    async def _send(self) -> None:
        async with asyncio.timeout(UPDATE_TIMEOUT):
            connection = await self._connect()
            reply = await connection.fetch("POST", "/machine/map", self._authority, self._body())
        if reply.status != 200:
            text = one_line_untrusted(reply.body)
            msg = f"map answered {reply.status}: {text}"
            if says_unknown_node(reply.status, text):
                self._on_forgotten(msg)
            raise RemoteProtocolError(msg)
