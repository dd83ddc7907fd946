"""A control server that follows a script of faults: plain Python, one step a request.

``server.script["/machine/map"] = [refuse(503), cut(40), hang()]``: the first three polls go wrong,
each in its way, and from then on the server is honest.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime

from integration.lab.control import ControlServer, ControlSettings
from integration.lab.control_noise import Request

Honest = Callable[[Request], Awaitable[None]]
Fault = Callable[[Request, Honest], Awaitable[None]]


def honest() -> Fault:
    """No fault: a pause in the script."""

    async def step(request: Request, serve: Honest) -> None:
        await serve(request)

    return step


def refuse(status: int, text: str = "no\n", **headers: str) -> Fault:
    """Answer with a status; ``retry_after="7"`` is a header."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}

    async def step(request: Request, _: Honest) -> None:
        request.reply(status, text.encode(), fields)

    return step


def hang() -> Fault:
    """Never answer."""

    async def step(_request: Request, _: Honest) -> None:
        await asyncio.Event().wait()

    return step


def send(body: bytes, status: int = 200) -> Fault:
    """Answer with any bytes, and end."""

    async def step(request: Request, _: Honest) -> None:
        request.start(status)
        await request.write(body)
        request.end()

    return step


def cut(after: int) -> Fault:
    """Serve, but drop the connection after this many bytes of it on the wire."""

    async def step(request: Request, serve: Honest) -> None:
        cut_writer(request.writer, after)
        await serve(request)

    return step


def garble(data: bytes) -> Fault:
    """Serve, but put any bytes on the wire first, outside of the records."""

    async def step(request: Request, serve: Honest) -> None:
        request.writer.write(data)
        await serve(request)

    return step


def drip(size: int, pause: float) -> Fault:
    """Serve, but a few bytes at a time with a pause [s] after each."""

    async def step(request: Request, serve: Honest) -> None:
        whole = request.write

        async def write(data: bytes) -> None:
            for start in range(0, len(data), size):
                await whole(data[start : start + size])
                await asyncio.sleep(pause)

        request.write = write  # type: ignore[method-assign]
        await serve(request)

    return step


def cut_writer(writer: asyncio.StreamWriter, after: int) -> None:
    """Let this many more bytes pass, then close."""
    left = after
    write = writer.write

    def limited(data: bytes) -> None:
        nonlocal left
        if left > 0:
            write(data[:left])
        left -= len(data)
        if left <= 0:
            writer.close()

    writer.write = limited  # type: ignore[method-assign, assignment]


class FaultyControl(ControlServer):
    """Follows :attr:`script` by path within the Noise connection, and :attr:`cuts` outside.

    Attributes:
        script: faults that are still to come, by path.
        cuts: for new TCP connections, bytes after which each is dropped.
        asked: requests by path.
    """

    def __init__(
        self,
        settings: ControlSettings,
        *,
        now: Callable[[], float],
        wall: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        super().__init__(settings, now=now, wall=wall, random_bytes=random_bytes)
        self.script: dict[str, list[Fault]] = {}
        self.cuts: list[int] = []
        self.asked: Counter[str] = Counter()

    async def _outer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cuts:
            cut_writer(writer, self.cuts.pop(0))
        await super()._outer(reader, writer)

    async def _inner(self, request: Request) -> None:
        self.asked[request.path] += 1
        steps = self.script.get(request.path)
        if steps:
            await steps.pop(0)(request, super()._inner)
        else:
            await super()._inner(request)
