"""A LocalAPI server on a temporary socket, in a thread, for programs that block."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.fake_backend import FakeBackend

from tailnet.agent.localapi.aio import LocalServer


@contextmanager
def served(
    backend: FakeBackend, path: Path, uid: Callable[[object], int | None] = lambda _: 0
) -> Iterator[None]:
    """Serve ``backend`` until the end of the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="localapi")
    thread.start()
    server = LocalServer(backend, path, peer_uid=uid)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(5)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result(5)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
