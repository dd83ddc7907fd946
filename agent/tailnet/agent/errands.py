"""What ``tailnetd`` does besides being a daemon: one thing, then it exits."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

from tailnet.agent.daemon.aio import USERSPACE, saved_guard, to_plain_text
from tailnet.agent.errors import BadPacket, UserError
from tailnet.agent.hooks.commands.aio import serve_one
from tailnet.platform.interface import FirewallConfig, NetfilterMode
from tailnet.platform.system import Platform


def decrypt(state: Path, state_key: str, path: Path) -> str:
    """``--decrypt-state``: refuse while a daemon lives, else rewrite the file; a line about it.

    Raises:
        UserError: it cannot be.
    """
    if answers(path):
        msg = f"a daemon is running (socket {path}); stop it first"
        raise UserError(msg)
    to_plain_text(state, state_key)
    return f"{state} is plain text now; start tailnetd without --state-key"


def set_guard(platform: Platform, tun: str, state: Path, state_key: str, path: Path) -> str:
    """``--guard``: as the last daemon would have it; a living one sees to it itself.

    Returns:
        What was done, empty if nothing.

    Raises:
        UserError, PlatformError: it cannot be.
    """
    wanted = None if answers(path) else saved_guard(state, state_key)
    if wanted is None:
        return ""
    config = FirewallConfig(mode=NetfilterMode.OFF, guard=wanted)
    asyncio.run(platform.firewall(tun).apply(config))
    return "the kill switch is set; end it with: tailnetd --cleanup --remove-guard"


def clean_up(platform: Platform, tun: str, path: Path, *, guard: bool) -> list[str]:
    """``--cleanup``: refuse while a daemon lives, else remove residue.

    Returns:
        A line for each thing that was done.

    Raises:
        UserError, PlatformError: it cannot be.
    """
    if answers(path):
        msg = f"a daemon is running (socket {path}); stop it first, it cleans up by itself"
        raise UserError(msg)
    done: list[str] = []
    if tun != USERSPACE:
        # After a crash the service manager starts us again: until then nothing may leak.
        crashed = os.environ.get("SERVICE_RESULT", "success") != "success"
        done = asyncio.run(platform.cleanup(tun, leak_guard=crashed, guard=guard))
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        done.append(f"removed socket {path}")
    return done


def run_hook() -> None:
    """``--run-hook``: what the socket unit's connection, our standard input, asks for."""
    with contextlib.suppress(BadPacket), socket.socket(fileno=os.dup(0)) as connection:
        asyncio.run(serve_one(connection))


def answers(path: Path) -> bool:
    """Whether a daemon listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
