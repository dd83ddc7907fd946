"""All servers of a lab in one process: ``python -m integration.lab.servers CONFIG.json``.

Runs in the namespace of the segment, prints ``ready`` when everything listens, and ends at SIGTERM.
The lab talks to it over the admin socket (:mod:`integration.lab.admin`).  Each ``do_*`` method of
:mod:`integration.lab.desk_control` and :mod:`integration.lab.desk_relays` is one thing it can be
asked to do, ``do_stop_control`` as ``stop-control``.
"""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from integration.lab.admin import MAX_LINE, Refused
from integration.lab.config import ServersConfig
from integration.lab.desk_control import ControlDesk
from integration.lab.desk_relays import RelayDesk

from tailnet.agent.errors import TailnetError

log = logging.getLogger("lab.servers")

# What a request that makes no sense may end in; anything else is a bug and ends the servers.
_REFUSALS = (Refused, TailnetError, OSError, LookupError, AttributeError, TypeError, ValueError)


class Servers:
    """Control, DERP relays and STUN of one lab."""

    def __init__(self, config: ServersConfig) -> None:
        self._relays = RelayDesk(config)
        self._control = ControlDesk(config, self._relays.map)

    async def start(self) -> None:
        """Start everything."""
        await self._relays.start()
        await self._control.do_start_control()

    async def stop(self) -> None:
        """Stop everything that runs."""
        await self._control.stop()
        await self._relays.stop()

    async def do_mischief(self) -> int:
        """How often servers with a fault have misbehaved, since they started."""
        return self._control.mischief + self._relays.mischief

    def _method(self, name: str) -> Callable[..., Awaitable[object]]:
        desk = next((d for d in (self._control, self._relays) if hasattr(d, name)), self)
        found: Callable[..., Awaitable[object]] = getattr(desk, name)
        return found

    async def answer(self, line: bytes) -> bytes:
        """One request, one answer, both a line of JSON."""
        try:
            request = json.loads(line)
            name = "do_" + str(request.pop("do")).replace("-", "_")
            reply = {"ok": await self._method(name)(**request)}
        except _REFUSALS as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        return msgspec.json.encode(reply) + b"\n"

    async def serve_admin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            writer.write(await self.answer(await reader.readline()))
            await writer.drain()
        except OSError as error:
            log.info("admin connection lost: %s", error)
        finally:
            writer.close()


async def serve(config: ServersConfig) -> None:
    """Run until SIGTERM."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    servers = Servers(config)
    try:
        await servers.start()
        path = Path(config.directory) / "admin.sock"
        admin = await asyncio.start_unix_server(servers.serve_admin, path, limit=MAX_LINE)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await told.wait()
        admin.close()
    finally:
        await servers.stop()


def main() -> None:
    """Read the configuration and serve."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s"
    )
    asyncio.run(serve(ServersConfig.from_json(Path(sys.argv[1]).read_text())))


if __name__ == "__main__":
    main()
