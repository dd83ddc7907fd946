"""Who listens is looked at only while control wants to know."""

import asyncio

from tailnet.agent.backend.listeners.aio import ListenerWatch
from tailnet.agent.tailcfg.node import Service
from tailnet.platform.system import Listener


async def test_told_while_wanted_and_forgotten_when_not() -> None:
    """Nobody looks before, and nothing is left after; wanted again, it looks at once."""
    looks: list[int] = []
    heard: asyncio.Queue[tuple[Service, ...]] = asyncio.Queue()

    def look() -> tuple[Listener, ...]:
        looks.append(1)
        return (Listener(22, "sshd"), Listener(8080, ""))

    watch = ListenerWatch(look, lambda: heard.put_nowait(watch.services))
    watch.want(False)
    assert looks == []
    watch.want(True)
    watch.want(True)
    told = (
        Service(proto="tcp", port=22, description="sshd"),
        Service(proto="tcp", port=8080),
    )
    assert (await heard.get(), len(looks)) == (told, 1)
    watch.want(False)
    assert watch.services == ()
    watch.want(True)
    assert await heard.get() == told
    await watch.close()
