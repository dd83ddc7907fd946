"""The shell that answers the control server: pings, signs of life, requests to this node."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tailnet.agent.control.ask import (
    Answers,
    Ask,
    C2n,
    Head,
    Pings,
    Target,
    parse_ask_untrusted,
)
from tailnet.agent.control.c2n import (
    HttpResponse,
    answer,
    encode_response,
    parse_request_untrusted,
)
from tailnet.agent.control.conn.aio import Connection
from tailnet.agent.control.dial.aio import Dialer
from tailnet.agent.errors import BadPacket, TailnetError
from tailnet.agent.tailcfg.codec import encode
from tailnet.agent.tailcfg.mapping import PingRequest
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.control")

HEAD_TIMEOUT = 15.0  # seconds
POST_TIMEOUT = 60.0  # seconds
PING_TIMEOUT = 10.0  # seconds for one ping
MAX_ANSWERING = 16  # requests at once; a server that asks for more is not answered

Connect = Callable[[], Awaitable[Connection]]


class Answerer:
    """Answers beside the map stream, so that nothing waits for it.

    Args:
        node: answers; ``None`` answers nothing but signs of life.
        connect: the open Noise connection.
    """

    def __init__(self, node: Answers | None, dialer: Dialer, connect: Connect) -> None:
        self._node = node
        self._dialer = dialer
        self._connect = connect
        self._tasks = Tasks()
        self._under_way = 0

    def handle(self, request: PingRequest) -> None:
        """Answer one request, some time."""
        try:
            ask = parse_ask_untrusted(request)
        except BadPacket as error:
            log.debug("not answered: %s", error)
            return
        if self._under_way >= MAX_ANSWERING:
            log.debug("not answered: too many requests at once")
            return
        self._under_way += 1
        _ = self._tasks.start("answer to control", self._answer(ask))

    async def close(self) -> None:
        """Answer no more."""
        await self._tasks.close()

    async def _answer(self, ask: Ask) -> None:
        try:
            match ask:
                case Head(target):
                    await self._send(target, "HEAD", b"")
                case Pings(target, ip, kinds):
                    for kind in kinds:
                        await self._ping(target, Pings(target, ip, (kind,)))
                case C2n(target, payload):
                    response = await self._serve(payload)
                    await self._send(target, "POST", encode_response(response))
        except (TailnetError, OSError) as error:
            log.debug("answer not delivered: %s", error)
        finally:
            self._under_way -= 1

    async def _ping(self, target: Target, one: Pings) -> None:
        (kind,) = one.kinds
        if self._node is None:
            return
        try:
            async with asyncio.timeout(PING_TIMEOUT):
                response = await self._node.ping(one.ip, kind)
        except TimeoutError:
            return  # as upstream: no answer is the answer
        if response is not None:
            await self._send(target, "POST", encode(response))

    async def _serve(self, payload: bytes) -> HttpResponse:
        try:
            request = parse_request_untrusted(payload)
        except BadPacket as error:
            return HttpResponse(400, f"{error}\n".encode())
        if self._node is None:
            return HttpResponse(501, b"this node answers no requests\n")
        return await answer(request, self._node)

    async def _send(self, target: Target, method: str, body: bytes) -> None:
        limit = HEAD_TIMEOUT if method == "HEAD" else POST_TIMEOUT
        async with asyncio.timeout(limit):
            if target.noise:
                connection = await self._connect()
                await connection.fetch(method, target.path, target.server.authority, body)
            else:
                await self._dialer.fetch(target.server, method, target.path, body)
