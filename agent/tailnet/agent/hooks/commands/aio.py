"""Runs the commands of hooks as somebody without rights."""

import asyncio
import contextlib
import os
import pwd
import socket
from pathlib import Path
from typing import Any

from tailnet.agent.errors import BadPacket, UserError
from tailnet.agent.hooks.commands.call import MAX_LINE, Call, Done, decode_untrusted, encode
from tailnet.agent.hooks.settings import NOBODY
from tailnet.platform.processes import run

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
    ended = await run(
        *call.command,
        feed=call.details.encode(),
        most=MAX_OUTPUT,
        cwd="/",
        env=call.environment,
        **identity,
    )
    return Done(ended.output.decode(errors="replace"), ended.status)


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
