"""Commands run by somebody else, over a socket, as the unit does."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tailnet.agent.errors import UserError
from tailnet.agent.hooks.commands.aio import execute, serve_one
from tailnet.agent.hooks.commands.call import Call
from tailnet.agent.hooks.settings import NOBODY


@asynccontextmanager
async def unit(path: Path) -> AsyncIterator[Path]:
    """Accepts connections and serves each, as systemd and its instances do."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.setblocking(False)

        async def accept() -> None:
            async with asyncio.TaskGroup() as instances:
                while True:
                    connection, _ = await loop.sock_accept(listening)
                    instances.create_task(serve_one(connection))

        serving = asyncio.create_task(accept())
        yield path
        serving.cancel()
        await asyncio.wait([serving])


def shell(script: str) -> Call:
    """A command."""
    return Call(("/bin/sh", "-c", script), {"GREETING": "hello"}, "details")


async def test_the_unit_runs_it_and_says_how_it_went(tmp_path: Path) -> None:
    """With its environment and standard input; as whoever the unit is."""
    async with unit(tmp_path / "s") as path:
        done = await execute(shell("echo $GREETING; cat; id -u; exit 3"), NOBODY, path)
    assert (done.output, done.status) == (f"hello\ndetails{os.geteuid()}\n", 3)


async def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    """In the words of the system."""
    async with unit(tmp_path / "s") as path:
        with pytest.raises(UserError, match="No such file"):
            await execute(Call(("/nowhere",), {}, ""), NOBODY, path)


async def test_one_that_is_given_up_is_ended_with_its_children(tmp_path: Path) -> None:
    """The end of the connection is the sign."""
    began, lives = tmp_path / "began", tmp_path / "lives"
    os.mkfifo(began)
    os.mkfifo(lives)
    script = f"(exec 4> {lives}; echo > {began}; exec sleep 60) & wait"
    async with asyncio.timeout(20), unit(tmp_path / "s") as path:
        running = asyncio.create_task(execute(shell(script), NOBODY, path))
        dead = asyncio.create_task(asyncio.to_thread(lives.read_text))
        await asyncio.to_thread(began.read_text)
        running.cancel()
        await dead  # nobody holds its other end any more
