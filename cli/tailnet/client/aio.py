"""The client of programs with an event loop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from msgspec import DecodeError, json

from tailnet.agent.localapi.schema.basics import VERSION
from tailnet.agent.localapi.schema.bus import Notify
from tailnet.client.errors import ClientError, NotRunning
from tailnet.client.questions import Question
from tailnet.client.sync import MAX_LINE, parse
from tailnet.client.trouble import find_socket, in_words, not_running, refused
from tailnet.client.wire import Answer, request

T = TypeVar("T")


class AsyncClient:
    """Asks one daemon.  Patience is the caller's: ``asyncio.timeout``.

    Attributes:
        daemon_version: what the last answer said; the version of this client before.
    """

    def __init__(self, path: str | None = None) -> None:
        """``path``: of the daemon's socket; by default where this user's would be."""
        self._path = path or find_socket()
        self.daemon_version = VERSION

    async def ask(self, question: Question[T]) -> T:
        """The answer, typed.

        Raises:
            NotRunning: nobody answers.
            Refused: any status but 2xx.
        """
        data = request(question.method, question.name, question.data, question.headers)
        async with self._exchange(data) as (reader, answer, piece):
            pieces = [piece]
            while not answer.complete:
                pieces.append(answer.feed(await reader.read(1 << 16)))
        return parse(b"".join(pieces), question.kind)

    async def watch(self, mask: int) -> AsyncGenerator[Notify, None]:
        """What happens from now on, until the caller stops.

        Raises:
            NotRunning: nobody answers, or not any more.
            Refused: any status but 2xx.
        """
        data = request("GET", f"watch-ipn-bus?mask={mask}")
        async with self._exchange(data) as (reader, answer, piece):
            buffer = bytearray(piece)
            while True:
                *lines, rest = bytes(buffer).split(b"\n")
                for line in lines:
                    try:
                        yield json.decode(line, type=Notify)
                    except DecodeError as error:
                        msg = f"no sense in what tailnetd says: {error}"
                        raise ClientError(msg) from None
                if answer.complete or len(rest) > MAX_LINE:
                    msg = "tailnetd ended the watch; is it still running?"
                    raise NotRunning(msg)
                buffer = bytearray(rest)
                buffer += answer.feed(await reader.read(1 << 16))

    @asynccontextmanager
    async def _exchange(
        self, data: bytes
    ) -> AsyncIterator[tuple[asyncio.StreamReader, Answer, bytes]]:
        """Send a request; its answer with the head, and what of the body came with it."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
        except OSError as error:
            raise not_running(self._path, error) from None
        try:
            with in_words():
                writer.write(data)
                answer, piece = Answer(), b""
                while not answer.status:
                    piece += answer.feed(await reader.read(1 << 16))
                self.daemon_version = answer.headers.get("tailscale-version", VERSION)
                if not 200 <= answer.status < 300:
                    while not answer.complete:
                        piece += answer.feed(await reader.read(1 << 16))
                    raise refused(answer.status, piece)
                yield reader, answer, piece
        finally:
            writer.close()
