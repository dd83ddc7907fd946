"""Runs hooks: processes without our privileges, and posts of JSON."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import h11
import msgspec

from tailnet.agent.errors import UserError
from tailnet.agent.hooks.commands.aio import execute
from tailnet.agent.hooks.commands.call import SOCKET, Call
from tailnet.agent.hooks.happenings import Happening
from tailnet.agent.hooks.runs import Run, RunQueue
from tailnet.agent.hooks.settings import Hook, environment
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.hooks")

MAX_ANSWER = 64 << 10  # bytes of a web server that are read


class HookRunner:
    """Does what hooks say, a few at a time."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        make_context: Callable[[], ssl.SSLContext],
        unit: Path = SOCKET,
    ) -> None:
        """``make_context``: for webhooks over TLS; ``unit``: see :mod:`.commands.call`."""
        self._now = now
        self._make_context = make_context
        self._unit = unit
        self._hooks: tuple[Hook, ...] = ()
        self._queue = RunQueue(())
        self._tasks = Tasks()
        self._idle = asyncio.Event()
        self._closed = False

    def configure(self, hooks: Sequence[Hook]) -> None:
        """Use these from now on; what runs goes on."""
        if tuple(hooks) != self._hooks:
            self._hooks = tuple(hooks)
            self._queue.configure(self._hooks)

    def happened(self, happening: Happening) -> None:
        """Run what concerns this; nothing after the end was told."""
        if self._closed:
            return
        if left_out := self._queue.happened(happening, self._now()):
            log.warning("%s: too many at once; %d not run", happening.occasion.value, left_out)
        self._pump()

    async def close(self, patience: float = 0.0) -> None:
        """Give what runs and waits ``patience`` [s], and end it."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._queue.busy:
                    await self._idle.wait()
                    self._idle.clear()
        await self._tasks.close()

    def _pump(self) -> None:
        while (run := self._queue.poll()) is not None:
            _ = self._tasks.start(f"hook {run.hook.label}", self._run(run))

    async def _run(self, run: Run) -> None:
        hook, happening = run
        try:
            async with asyncio.timeout(hook.timeout):
                how = await (self._execute(run) if hook.command else self._post(run))
        except TimeoutError:
            how = f"ended after {hook.timeout:g} s"
        except (OSError, UserError, h11.ProtocolError) as error:
            how = f"failed: {getattr(error, 'strerror', None) or error}"
        finally:
            self._queue.ended()
            self._idle.set()
        log.info("%s: %s %s", happening.occasion.value, hook.label, how)
        self._pump()

    async def _execute(self, run: Run) -> str:
        """A command: details in its environment, and as JSON on its standard input."""
        hook, happening = run
        about = environment(happening.occasion, happening.about)
        call = Call(hook.command, about, _details(happening).decode())
        done = await execute(call, hook.user, self._unit)
        for line in done.output.splitlines():
            log.info("%s: %s", hook.label, "".join(c for c in line if c.isprintable()))
        return "done" if done.status == 0 else f"exited with {done.status}"

    async def _post(self, run: Run) -> str:
        """A webhook; any status of 2xx is well."""
        url = urlsplit(run.hook.url)
        tls = url.scheme == "https"
        if not url.hostname:
            msg = "the URL names no host"
            raise UserError(msg)
        reader, writer = await asyncio.open_connection(
            url.hostname,
            url.port or (443 if tls else 80),
            ssl=self._make_context() if tls else None,
        )
        try:
            status = await _exchange(reader, writer, url.hostname, run)
        finally:
            writer.close()
        return "posted" if 200 <= status < 300 else f"was answered with {status}"


def _details(happening: Happening) -> bytes:
    return msgspec.json.encode({"event": happening.occasion.value, **happening.about})


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, run: Run
) -> int:
    """One request; the answer's status."""
    url, body = urlsplit(run.hook.url), _details(run.happening)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    port = f":{url.port}" if url.port else ""
    http = h11.Connection(h11.CLIENT)
    headers = {
        "Host": (f"[{host}]" if ":" in host else host) + port,
        "User-Agent": "tailnetd",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    head = h11.Request(method="POST", target=target, headers=list(headers.items()))
    parts = (head, h11.Data(data=body), h11.EndOfMessage())
    writer.write(b"".join(http.send(part) or b"" for part in parts))
    await writer.drain()
    read = 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(1 << 14)
            read += len(data)
            if read > MAX_ANSWER:
                msg = "its answer is too long"
                raise UserError(msg)
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            return event.status_code
        elif not isinstance(event, h11.InformationalResponse):
            msg = "it did not answer"
            raise UserError(msg)
