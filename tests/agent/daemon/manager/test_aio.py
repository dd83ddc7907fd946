"""What the service manager hears."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from tests.support import virtual

from tailnet.agent.backend.aio import Node
from tailnet.agent.backend.events import BrowseToURL, HealthChanged, NodeEvent, StateChanged
from tailnet.agent.backend.state import State
from tailnet.agent.daemon.manager.aio import ServiceManager


def test_the_heart_beats_twice_in_the_managers_patience_until_the_end() -> None:
    """And not at all where nobody waits for it."""

    async def beats(patience: float | None) -> list[str]:
        heard: list[str] = []
        manager = ServiceManager(heard.append, patience)
        await manager.start()
        await asyncio.sleep(61.0)
        await manager.close()
        await asyncio.sleep(61.0)
        return heard

    assert virtual.run(beats(60.0)) == ["WATCHDOG=1"] * 3
    assert virtual.run(beats(None)) == []


def test_its_line_follows_the_node_and_is_told_once() -> None:
    """A page to log in at is worth showing only while it is needed."""
    heard: list[str] = []
    watchers: list[Callable[[NodeEvent], None]] = []
    node = SimpleNamespace(state=State.NEEDS_LOGIN, netmap=None, watch=watchers.append)
    ServiceManager(heard.append, None).follow(cast("Node", node))
    (tell,) = watchers
    tell(StateChanged(State.NEEDS_LOGIN))
    tell(BrowseToURL("https://login.example/a"))
    tell(HealthChanged(()))
    for state in (State.STARTING, State.NEEDS_LOGIN):
        node.state = state
        tell(StateChanged(state))
    assert heard == [
        "STATUS=Needs login: tnet up",
        "STATUS=Needs login: https://login.example/a",
        "STATUS=Starting",
        "STATUS=Needs login: tnet up",
    ]
