"""Hooks run for real: processes, and a web server on loopback."""

import asyncio
import json
import logging
import os
import ssl
import stat
from pathlib import Path

import pytest

from tailnet.agent import clock
from tailnet.agent.hooks.aio import HookRunner
from tailnet.agent.hooks.commands.aio import MAX_OUTPUT
from tailnet.agent.hooks.happenings import Happening
from tailnet.agent.hooks.settings import Hook, Occasion

UP = Happening(Occasion.PEER_UP, {"peer": "box", "address": "100.64.0.2"})
ME = "root" if os.geteuid() == 0 else "nobody"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What hooks log."""
    caplog.set_level(logging.INFO, "tailnet.hooks")
    return caplog


async def run(*hooks: Hook, patience: float = 10.0) -> None:
    """A peer came up; wait for all hooks."""
    runner = HookRunner(now=clock.now, make_context=ssl.create_default_context)
    runner.configure(hooks)
    runner.happened(UP)
    await runner.close(patience)


def shell(script: str, *, user: str = ME, timeout: float = 10.0) -> Hook:
    """A command."""
    return Hook(Occasion.PEER_UP, ("/bin/sh", "-c", script), "", timeout, user)


async def test_a_command_gets_the_details_twice(tmp_path: Path) -> None:
    """In its environment and on its standard input; nothing of our own environment."""
    out, given = tmp_path / "out", tmp_path / "given"
    await run(shell(f"env > {out}; cat > {given}; pwd >> {out}"))
    found = out.read_text().splitlines()
    assert "TAILNET_EVENT=on-peer-up" in found
    assert "TAILNET_PEER=box" in found
    assert found[-1] == "/"
    assert not [line for line in found if line.startswith(("PYTEST", "HOME", "VIRTUAL_ENV"))]
    assert json.loads(given.read_text()) == {
        "event": "on-peer-up",
        "peer": "box",
        "address": "100.64.0.2",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_a_command_runs_as_nobody_by_default(said: pytest.LogCaptureFixture) -> None:
    """Without any of root's groups."""
    await run(Hook(Occasion.PEER_UP, ("/usr/bin/id",)))
    assert "uid=65534(nobody)" in said.text
    assert "root" not in said.text


async def test_output_and_failure_are_in_the_log(said: pytest.LogCaptureFixture) -> None:
    """Without what a terminal would act on, and not all of it."""
    await run(shell("printf 'a\\033[2Jb\\n'; exit 3"))
    assert "/bin/sh: a[2Jb" in said.text
    assert "on-peer-up: /bin/sh exited with 3" in said.text
    said.clear()
    await run(shell("yes | head -c 1000000"))
    assert len(said.text) < 100 * MAX_OUTPUT
    assert "/bin/sh done" in said.text


async def test_a_command_that_hangs_is_ended_with_its_children(
    said: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """After its own time."""
    mark = tmp_path / "fifo"
    os.mkfifo(mark)
    await run(shell(f"sleep 60 > {mark} & exec 3< {mark}; wait", timeout=0.2))
    assert "ended after 0.2 s" in said.text
    with pytest.raises(OSError, match="No such device"):  # nobody reads any more
        os.open(mark, os.O_WRONLY | os.O_NONBLOCK)


async def test_nothing_is_told_after_the_end(said: pytest.LogCaptureFixture) -> None:
    """The node lives a moment longer than its hooks."""
    runner = HookRunner(now=clock.now, make_context=ssl.create_default_context)
    runner.configure([shell(":")])
    runner.happened(UP)
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(runner.close(10.0))
        await asyncio.sleep(0)
        runner.happened(UP)
        await closing
        runner.happened(UP)
        await runner.close(10.0)
    assert said.text.count("/bin/sh done") == 1


async def test_a_command_is_ended_while_it_begins(said: pytest.LogCaptureFixture) -> None:
    """Its time may be over before it runs."""
    await run(shell("sleep 60", timeout=0.0))
    assert "ended after 0 s" in said.text


async def test_a_child_that_went_away_with_the_output_holds_nothing(
    said: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A daemon that a command leaves behind, in a session of its own."""
    os.mkfifo(tmp_path / "end")
    await run(shell(f"setsid cat {tmp_path}/end & wait", timeout=0.2))
    assert "ended after 0.2 s" in said.text
    os.close(os.open(tmp_path / "end", os.O_WRONLY))  # which ends it


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        (Hook(Occasion.PEER_UP, ("/nowhere",), user=ME), "/nowhere failed: No such file"),
        (shell(":", user="no-such-user"), "failed: "),
        (Hook(Occasion.PEER_UP, (), "http://127.0.0.1:1/x?key=secret"), "failed: "),
        (Hook(Occasion.PEER_UP, (), "http:///x"), "the URL names no host"),
    ],
)
async def test_what_cannot_be_run_is_said_without_secrets(
    said: pytest.LogCaptureFixture, hook: Hook, says: str
) -> None:
    """One line."""
    await run(hook)
    assert says in said.text
    assert "secret" not in said.text


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "posted"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "was answered with 500"),
        (b"garbage\r\n\r\n", "failed: "),
        (b"", "failed: "),
    ],
)
async def test_a_webhook_is_posted_as_json(
    said: pytest.LogCaptureFixture, answer: bytes, says: str
) -> None:
    """To the path and query of its URL."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.readuntil(b"}"))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await run(Hook(Occasion.PEER_UP, (), f"http://127.0.0.1:{port}/a?b=c"))
    server.close()
    head, _, body = bytes(heard).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{port}".encode() in head
    assert json.loads(body)["peer"] == "box"
    assert says in said.text


async def test_the_end_of_the_daemon_ends_what_runs(tmp_path: Path) -> None:
    """When its patience is over."""
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    runner = HookRunner(now=clock.now, make_context=ssl.create_default_context)
    runner.configure((shell(f"echo > {begun}; exec sleep 60"),))
    runner.happened(UP)
    await asyncio.to_thread(begun.read_text)
    await runner.close(0.05)
    assert stat.S_ISFIFO(begun.stat().st_mode)
