"""Tells the service manager that the event loop turns, and how the node is."""

import asyncio
from collections.abc import Callable

from tailnet.agent.backend.aio import Node
from tailnet.agent.backend.events import BrowseToURL, NodeEvent, StateChanged
from tailnet.agent.backend.state import State
from tailnet.agent.daemon.manager.line import line
from tailnet.agent.tasks import Tasks


class ServiceManager:
    """A part of the daemon, the first to start and the last to end.

    Args:
        notify: takes the words of sd_notify(3).
        patience: seconds of silence after which the manager takes us for dead, if it does.
    """

    def __init__(self, notify: Callable[[str], object], patience: float | None) -> None:
        self._notify = notify
        self._interval = patience / 2 if patience is not None else None  # as sd_watchdog says
        self._tasks = Tasks()
        self._said = ""

    async def start(self) -> None:
        """Begin to tell."""
        if self._interval is not None:
            _ = self._tasks.start("heartbeat", self._beat(self._interval))

    async def close(self) -> None:
        """Say no more."""
        await self._tasks.close()

    def ready(self) -> None:
        """All is up; it need not be connected."""
        self._notify("READY=1")

    def stopping(self) -> None:
        """On the way down."""
        self._notify("STOPPING=1")

    def follow(self, node: Node) -> None:
        """Tell how this node is, whenever that is something else."""
        url = ""

        def heard(event: NodeEvent) -> None:
            nonlocal url
            if isinstance(event, BrowseToURL):
                url = event.url
            elif isinstance(event, StateChanged) and event.state is not State.NEEDS_LOGIN:
                url = ""
            itself = node.netmap.self_node if node.netmap is not None else None
            self._say(line(node.state, itself, url))

        node.watch(heard)

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._notify(f"STATUS={text}")

    async def _beat(self, interval: float) -> None:
        while True:
            self._notify("WATCHDOG=1")
            await asyncio.sleep(interval)
