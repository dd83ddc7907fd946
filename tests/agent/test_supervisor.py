"""Order of start and shutdown."""

import asyncio
import os
import signal
from dataclasses import dataclass, field

import pytest

from tailnet.agent.errors import UserError
from tailnet.agent.supervisor import supervise


@dataclass
class Part:
    """A service that writes down what happens to it."""

    name: str
    journal: list[str]
    refuse: bool = False
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Note it, or refuse."""
        self.journal.append(f"start {self.name}")
        if self.refuse:
            msg = f"no {self.name}"
            raise UserError(msg)
        self.started.set()

    async def close(self) -> None:
        """Note it; a failing one must not keep the others open."""
        self.journal.append(f"close {self.name}")
        raise OSError


async def test_down_is_the_reverse_of_up() -> None:
    """Also when closing fails."""
    journal: list[str] = []
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    parts = [(name, Part(name, journal)) for name in ("a", "b")]
    failed.set_result("the device is gone")
    reason = await supervise(
        list(parts),
        failed=failed,
        ready=lambda: journal.append("ready"),
        stopping=lambda: journal.append("stopping"),
        failing=lambda: journal.append("failing"),
    )
    assert reason == "the device is gone"
    assert journal == ["start a", "start b", "ready", "failing", "stopping", "close b", "close a"]


async def test_a_signal_ends_it_without_a_reason() -> None:
    """SIGTERM is the ordinary way to go."""
    journal: list[str] = []
    loop = asyncio.get_running_loop()
    part = Part("a", journal)
    reason = await supervise(
        [("a", part)],
        failed=loop.create_future(),
        ready=lambda: os.kill(os.getpid(), signal.SIGTERM),
        stopping=lambda: None,
        failing=lambda: journal.append("failing"),
    )
    loop.remove_signal_handler(signal.SIGTERM)
    loop.remove_signal_handler(signal.SIGINT)
    assert reason is None
    assert journal == ["start a", "close a"]


async def test_what_started_is_closed_when_the_next_refuses() -> None:
    """The refused one too: it may have got half-way."""
    journal: list[str] = []
    parts = [("a", Part("a", journal)), ("b", Part("b", journal, refuse=True))]
    with pytest.raises(UserError, match="no b"):
        await supervise(
            list(parts),
            failed=asyncio.get_running_loop().create_future(),
            ready=lambda: journal.append("ready"),
            stopping=lambda: None,
        )
    assert journal == ["start a", "start b", "close b", "close a"]
