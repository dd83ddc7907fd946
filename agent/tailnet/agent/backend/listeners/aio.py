"""``ListenerWatch``: looks who listens on this host, as long as control wants to know.

Source: tailscale feature/portlist/portlist.go.
"""

import asyncio
from collections.abc import Callable

from tailnet.agent.tailcfg.node import Service
from tailnet.agent.tasks import Tasks
from tailnet.platform.system import Listener

EVERY = 5.0  # seconds


class ListenerWatch:
    """Off until wanted.

    Args:
        look: who listens now; called in a thread.
        on_change: others listen than before.

    Attributes:
        services: what control is to be told.
    """

    def __init__(
        self, look: Callable[[], tuple[Listener, ...]], on_change: Callable[[], None]
    ) -> None:
        self._look = look
        self._on_change = on_change
        self._tasks = Tasks()
        self._task: asyncio.Task[None] | None = None
        self.services: tuple[Service, ...] = ()

    def want(self, wanted: bool) -> None:
        """Whether control is told at all."""
        if wanted and self._task is None:
            self._task = self._tasks.start("listeners", self._run())
        elif not wanted and self._task is not None:
            self._task.cancel()
            self._task = None
            self.services = ()

    async def close(self) -> None:
        """Look no more."""
        await self._tasks.close()

    async def _run(self) -> None:
        while True:
            found = services_of(await asyncio.to_thread(self._look))
            if found != self.services:
                self.services = found
                self._on_change()
            await asyncio.sleep(EVERY)


def services_of(listeners: tuple[Listener, ...]) -> tuple[Service, ...]:
    """As control reads them."""
    return tuple(Service(proto="tcp", port=x.port, description=x.program) for x in listeners)
