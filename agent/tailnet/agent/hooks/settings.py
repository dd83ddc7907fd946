"""What the configuration file says of hooks, parsed.

::

    "Hooks": {
      "on-peer-up": [{"Command": ["/usr/local/bin/hello"], "Timeout": "5s"}],
      "on-exit-lost": [{"URL": "https://example.com/alarm"}],
    }
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec
from msgspec import field

from tailnet.agent.errors import UserError

MAX_HOOKS = 64
DEFAULT_TIMEOUT = 10.0  # seconds
MAX_TIMEOUT = 300.0  # seconds
NOBODY = "nobody"
_DURATION = re.compile(r"([0-9]{1,4})(ms|s|m)", re.ASCII)
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0}
_URL = re.compile(r"https?://[!-~]{1,2000}", re.ASCII)


class Occasion(StrEnum):
    """When hooks run."""

    RUNNING = "on-running"
    STOPPED = "on-stopped"
    PEER_UP = "on-peer-up"
    PEER_DOWN = "on-peer-down"
    PATH_CHANGE = "on-path-change"
    KEY_EXPIRING = "on-key-expiring"
    EXIT_LOST = "on-exit-lost"


class Hook(NamedTuple):
    """One of them: either ``command`` or ``url`` is there.

    Attributes:
        occasion: when it runs.
        command: program and arguments; no shell reads them.
        url: where a JSON object is posted to.
        timeout: seconds until it is ended.
        user: whom a command runs as.
    """

    occasion: Occasion
    command: tuple[str, ...] = ()
    url: str = ""
    timeout: float = DEFAULT_TIMEOUT
    user: str = NOBODY

    @property
    def label(self) -> str:
        """For the log: no arguments and no query, which may be secret."""
        return self.command[0] if self.command else self.url.partition("?")[0]


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    command: tuple[str, ...] = ()
    url: str = field(default="", name="URL")
    timeout: str = ""
    user: str = NOBODY


def parse_hooks(tree: object) -> tuple[Hook, ...]:
    """The value of ``Hooks``; absent is none.

    Raises:
        UserError: one line about the first thing that is wrong.
    """
    if tree is None:
        return ()
    try:
        by_name = msgspec.convert(tree, type=dict[str, tuple[_Entry, ...]])
    except (msgspec.ValidationError, RecursionError) as error:
        msg = f"Hooks: {error}"
        raise UserError(msg) from None
    hooks = [_hook(name, entry) for name, entries in by_name.items() for entry in entries]
    if len(hooks) > MAX_HOOKS:
        msg = f"Hooks: more than {MAX_HOOKS}"
        raise UserError(msg)
    return tuple(hooks)


def _hook(name: str, entry: _Entry) -> Hook:
    if name not in set(Occasion):
        msg = f"Hooks: {name[:64]!r} never happens; there are {', '.join(Occasion)}"
        raise UserError(msg)
    if bool(entry.command) == bool(entry.url):
        msg = f"Hooks: {name}: give either a Command or a URL"
        raise UserError(msg)
    if entry.command and not entry.command[0].startswith("/"):
        msg = f"Hooks: {name}: the program needs its whole path, not {entry.command[0][:64]!r}"
        raise UserError(msg)
    if any("\0" in part for part in (*entry.command, entry.user)):
        msg = f"Hooks: {name}: no text may have a zero byte"
        raise UserError(msg)
    if entry.url and not _URL.fullmatch(entry.url):
        msg = f"Hooks: {name}: the URL is http:// or https://"
        raise UserError(msg)
    return Hook(Occasion(name), entry.command, entry.url, _seconds(name, entry.timeout), entry.user)


def _seconds(name: str, text: str) -> float:
    if not text:
        return DEFAULT_TIMEOUT
    match = _DURATION.fullmatch(text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= MAX_TIMEOUT:
        msg = f"Hooks: {name}: a Timeout is like 5s or 500ms, at most 5m"
        raise UserError(msg)
    return seconds


def environment(occasion: Occasion, about: Mapping[str, str]) -> dict[str, str]:
    """What a command finds: ``TAILNET_EVENT``, and each detail as ``TAILNET_…``."""
    named = {f"TAILNET_{key.upper()}": value for key, value in about.items()}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "LANG": "C.UTF-8", "TAILNET_EVENT": occasion.value, **named}
