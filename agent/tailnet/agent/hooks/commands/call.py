"""What is said to the unit that runs commands for a daemon that may not become another user.

::

    daemon ── /run/tailnetd-hook.sock ──► tailnetd-hook@N.service: tailnetd --run-hook
       Call: one line of JSON  ───────────────►
       ◄─────────────────────────────────  Done: one line of JSON

A connection that ends before the answer ends the command, and its children.
"""

from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from tailnet.agent.errors import BadPacket

SOCKET = Path("/run/tailnetd-hook.sock")  # of the socket unit
MAX_LINE = 1 << 20  # bytes; arguments, details and output are far below
_Message = TypeVar("_Message", "Call", "Done")


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command to run.

    Attributes:
        command: program and arguments.
        environment: all of it.
        details: its standard input.
    """

    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    environment: dict[str, str]
    details: str


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How it went.

    Attributes:
        output: the beginning of what it printed.
        status: exit code, negative for a signal; with ``refused`` it means nothing.
        refused: why it could not be run; empty if it was.
    """

    output: str = ""
    status: int = 0
    refused: str = ""


def encode(message: Call | Done) -> bytes:
    """One line."""
    return msgspec.json.encode(message) + b"\n"


def decode_untrusted(line: bytes, kind: type[_Message]) -> _Message:
    """One line.

    Raises:
        BadPacket: it is none of this kind, or too long.
    """
    if len(line) > MAX_LINE:
        msg = "too long"
        raise BadPacket(msg)
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = "not a message about a command"
        raise BadPacket(msg) from error
