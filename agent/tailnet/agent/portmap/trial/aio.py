"""A second mapper for some seconds, and everything it says: ``tnet debug portmap``.

Source: tailscale feature/debugportmapper/debugportmapper.go.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable

from tailnet.agent.portmap.aio import PortMapper
from tailnet.agent.portmap.interface import Network, Portmap, Protocol
from tailnet.agent.tasks import Tasks

MAX_LINES = 1000  # that wait for a slow reader; then the oldest go


class PortmapTrial:
    """A stream of lines, until the router gave a port or the time is over.

    The port is one of its own, and given back at the end: the daemon's mapping is left alone.
    """

    def __init__(
        self,
        mapper: PortMapper,
        seconds: float,
        *,
        protocols: frozenset[Protocol],
        network: Network | None,
        now: Callable[[], float],
    ) -> None:
        """``mapper``: the daemon's; ``network``: in place of what the system says."""
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._news = asyncio.Event()
        self._mapped = asyncio.Event()
        self._over = False
        self._now = now
        self._began = now()
        self._mapper = mapper.trial(protocols, network, self._told, self._say)
        self._tasks = Tasks()
        self._task = self._tasks.start("portmap trial", self._run(seconds))

    async def read(self) -> bytes:
        """The next lines; empty at the end."""
        while not self._lines and not self._over:
            self._news.clear()
            await self._news.wait()
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        return "".join(f"{line}\n" for line in lines).encode()

    def close(self) -> None:
        """Nobody reads any longer; what the router gave is given back all the same."""
        self._mapped.set()

    def _say(self, text: str) -> None:
        self._lines.append(f"{self._now() - self._began:6.3f} s  {text}")
        self._news.set()

    def _told(self, portmap: Portmap) -> None:
        if portmap.external is not None:
            self._say(f"mapped to {portmap.external}")
            self._mapped.set()

    async def _run(self, seconds: float) -> None:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
                held.bind(("", 0))
                self._mapper.set_port(held.getsockname()[1])
                await self._try(seconds)
        except OSError as error:
            self._say(error.strerror or str(error))
        finally:
            self._over = True
            self._news.set()

    async def _try(self, seconds: float) -> None:
        try:
            self._mapper.start()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._mapped.wait()
            self._conclude()
        finally:
            await self._mapper.close()

    def _conclude(self) -> None:
        words = {True: "yes", False: "no", None: "not asked"}
        about = self._mapper.portmap
        for name, answer in zip(("UPnP", "NAT-PMP", "PCP"), about.support, strict=True):
            self._say(f"{name}: {words[answer]}")
        for reason, count in sorted(self._mapper.drops().items()):
            if count:
                self._say(f"ignored: {reason} ({count})")
        if about.external is None:
            self._say("no mapping")
