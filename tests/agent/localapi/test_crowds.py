"""Many watchers, and one that reads nothing."""

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from tests.support.fake_backend import FakeBackend
from tests.support.http_client import HttpClient

from tailnet.agent.httpd.aio import USUAL
from tailnet.agent.localapi.aio import LocalServer
from tailnet.agent.localapi.schema.basics import BASE, HOST
from tailnet.agent.localapi.schema.bus import Notify

WATCHERS = 200
ROUNDS = 20
WATCH = f"GET {BASE}watch-ipn-bus?mask=2 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
LARGE = {"Note": "x" * 20_000}


async def watched_by(backend: FakeBackend, number: int) -> None:
    """Once that many watch."""
    loop = asyncio.get_running_loop()
    reached = asyncio.Event()

    def look() -> None:
        if len(backend.bus) == number:
            reached.set()
        else:
            loop.call_later(0.001, look)

    look()
    async with asyncio.timeout(5):
        await reached.wait()


async def test_two_hundred_watchers_hear_everything_beside_one_that_reads_nothing(
    tmp_path: Path,
) -> None:
    """It is not waited for, and in the end left alone."""
    backend, path = FakeBackend(), tmp_path / "s"
    limits = replace(USUAL, stall_time=0.05)
    server = LocalServer(backend, path, peer_uid=lambda _: 0, limits=limits)
    await server.start()
    client = HttpClient(path, HOST)
    stuck = socket.socket(socket.AF_UNIX)
    try:
        async with AsyncExitStack() as stack:
            stuck.connect(str(path))
            stuck.sendall(WATCH)
            watchers = [
                await stack.enter_async_context(client.stream(f"{BASE}watch-ipn-bus"))
                for _ in range(WATCHERS)
            ]
            for watcher in watchers:
                await watcher.readline()  # each begins with a line of its own
            assert len(backend.bus) == WATCHERS + 1
            for number in range(ROUNDS):
                backend.bus.publish(Notify(state=number, prefs=LARGE))
                for watcher in watchers:
                    assert json.loads(await watcher.readline())["State"] == number
            await watched_by(backend, WATCHERS)
        await watched_by(backend, 0)
    finally:
        stuck.close()
        await server.close()
