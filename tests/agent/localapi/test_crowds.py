"""Many watchers, and one that reads nothing."""

import json
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from tests.support.fake_backend import FakeBackend
from tests.support.http_client import HttpClient
from tests.support.reached import reached

from tailnet.agent.httpd.aio import USUAL
from tailnet.agent.localapi.aio import LocalServer
from tailnet.agent.localapi.schema.basics import BASE, HOST
from tailnet.agent.localapi.schema.bus import Notify

WATCHERS = 200
ROUNDS = 20
WATCH = f"GET {BASE}watch-ipn-bus?mask=2 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
LARGE = {"Note": "x" * 20_000}


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
            await reached(lambda: len(backend.bus) == WATCHERS)
        await reached(lambda: len(backend.bus) == 0)
    finally:
        stuck.close()
        await server.close()
