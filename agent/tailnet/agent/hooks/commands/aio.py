"""Runs the commands of hooks as somebody without rights."""

import asyncio
import contextlib
import os
import pwd
import signal
import socket
from pathlib import Path
from typing import Any

from tailnet.agent.errors import BadPacket, UserError
from tailnet.agent.hooks.commands.call import MAX_LINE, Call, Done, decode_untrusted, encode
from tailnet.agent.hooks.settings import NOBODY
from tailnet.agent.tasks import whole

MAX_OUTPUT = 16 << 10  # bytes of a command that are kept


async def execute(call: Call, user: str, unit: Path) -> Done:
    """Run a command as this user: for nobody by the unit where there is one, else by ourselves.

    Raises:
        OSError: it cannot be started.
        UserError: there is no such user, or we may not become it.
    """
    if user == NOBODY:
        with contextlib.suppress(OSError, BadPacket):
            return await _hand_over(call, unit)
    return await _run(call, _identity(user))


async def serve_one(connection: socket.socket) -> None:
    """``tailnetd --run-hook``: run what the daemon says, as whoever we are, while it listens."""
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE)
    try:
        call = decode_untrusted(await reader.readline(), Call)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(_attempt(call))
            gone = group.create_task(reader.read(1))
            running.add_done_callback(lambda _: gone.cancel())
            gone.add_done_callback(lambda _: running.cancel())
        if not running.cancelled():
            writer.write(encode(running.result()))
            await writer.drain()
    finally:
        writer.close()


async def _attempt(call: Call) -> Done:
    try:
        return await _run(call, {})
    except OSError as error:
        return Done(refused=error.strerror or str(error))


async def _hand_over(call: Call, unit: Path) -> Done:
    reader, writer = await asyncio.open_unix_connection(unit, limit=MAX_LINE)
    try:
        writer.write(encode(call))
        done = decode_untrusted(await reader.readline(), Done)
    finally:
        writer.close()
    if done.refused:
        raise UserError(done.refused)
    return done


async def _run(call: Call, identity: dict[str, Any]) -> Done:
    """Details on standard input; ended with its children when we are cancelled."""
    making = whole(
        asyncio.create_subprocess_exec(
            *call.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
            env=call.environment,
            start_new_session=True,
            **identity,
        )
    )
    try:
        # Not cancelled in the middle: asyncio would wait for ever for pipes that it opens later.
        process = await asyncio.shield(making)
        output = await _talk(process, call.details.encode())
        status = await process.wait()
    finally:
        await _end(making)
    return Done(output.decode(errors="replace"), status)


async def _end(making: asyncio.Task[asyncio.subprocess.Process]) -> None:
    """End a process, if there is one, with its children."""
    await asyncio.wait([making])
    if making.cancelled() or making.exception() is not None:
        return
    process = making.result()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # A child in a session of its own may hold the pipe, and ``wait`` waits for that too.
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
        await process.wait()


def _identity(name: str) -> dict[str, Any]:
    """Whom a process runs as; without privilege we can only be ourselves.

    Raises:
        UserError: there is no such user, or we may not become it.
    """
    if os.geteuid() != 0:
        own = pwd.getpwuid(os.geteuid()).pw_name
        if name not in (NOBODY, own):
            msg = f"only root can run a command as {name}"
            raise UserError(msg)
        return {}
    try:
        user = pwd.getpwnam(name)
    except (KeyError, ValueError):
        msg = f"there is no user {name}"
        raise UserError(msg) from None
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


async def _talk(process: asyncio.subprocess.Process, details: bytes) -> bytes:
    """Say the details, hear the beginning of what it prints, and let it print the rest."""
    if process.stdin is None or process.stdout is None:
        return b""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(details)
        await process.stdin.drain()
    process.stdin.close()
    output = bytearray()
    while data := await process.stdout.read(1 << 14):
        output += data[: MAX_OUTPUT - len(output)]
    return bytes(output)
