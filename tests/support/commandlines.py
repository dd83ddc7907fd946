"""Command lines of ``tnet`` of every kind, sensible and not, and how it must end with each."""

import contextlib
import io
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from unittest import mock

import click
from hypothesis import strategies as st

from tailnet.cli.flags import SWITCHES, GoDuration
from tailnet.cli.main import cli, main
from tailnet.cli.web.server import WebServer
from tailnet.client.errors import TimedOut
from tailnet.client.sync import Client, Watch

LEFT_OUT = frozenset(("install", "uninstall"))  # they change this machine
MISCHIEF = (
    "", "-", "--", "=", "0", "-1", "1", "2147483648", "99999999999999999999999", "1e999", "NaN",
    "true", "false", "maybe", "5s", "-5s", "1h1h", "9999999999h", "box", "me", "BOX.x.ts.net.",
    "100.64.0.2", "fd7a:115c:a1e0::2", "[::1]:80", "100.64.0.2:22", ":22", "box:0", "box:65536",
    "0.0.0.0/0", "::/0", "10.0.0.0/8,10.0.0.1/8", "auto:any", "tag:x", "direct-only",
    "box=direct-only", "٣", "file:/nonexistent", "file:/", "https://c.example", "http://[",
    "xn--a", "xn--ls8h", "a" * 300,
    "\x1b[2J\x1b]0;x\x07", "\r\n", "a\nb", "\u202e", "\udcff", "é", "%00", "?a=b&c", "../../etc",
    "json", "A", "AAAA", "TXT", "*", "list", "remove", "status",
    "nodekey:2", "localhost:0", "0.0.0.0:80",
)  # fmt: skip
SENSIBLE = {
    "ends": ("box", "me", "box:22", "[fd7a:115c:a1e0::2]:80"),
    "names": ("remove", "work", "3f2a"),
    "setting": ("all", "hostname", "accept-routes"),
    "listen": ("localhost:0",),
    "advertise_routes": ("10.0.0.0/8", "10.0.0.0/8,192.0.2.0/24"),
    "static_endpoints": ("192.0.2.1:41641",),
    "path_policy": ("box=relay-only", "box=auto"),
    "exit_node": ("box", "auto:any", ""),
    "login_server": ("https://c.example",),
    "netfilter_mode": ("on", "off", "nodivert"),
    "auth_key": ("k", "file:/nonexistent"),
    "relay_server_port": ("0", "", "4000"),
    "type": ("", "A", "mx"),
    "route": ("status", "prefs", "/localapi/v0/derpmap", "nonsense"),
    "body": ("{}", ""),
    "component": ("magicsock", "nonsense"),
}
CODES = {0, 1, 2, 130}


@dataclass(frozen=True)
class Ended:
    """One run."""

    args: tuple[str, ...]
    code: object
    stdout: str
    stderr: str


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, by its words."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None or name in LEFT_OUT:
            continue
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name)


def find(path: tuple[str, ...]) -> click.Command:
    """The command of these words."""
    found: click.Command = cli
    for word in path:
        assert isinstance(found, click.Group)
        child = found.get_command(click.Context(found), word)
        assert child is not None
        found = child
    return found


COMMANDS = {path: find(path) for path in leaves(cli)}
TEXT = st.sampled_from(MISCHIEF) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12
)


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[str, ...]:
    """A command, a few of its flags, perhaps one of others, and arguments, in any order."""
    path = draw(st.sampled_from(sorted(COMMANDS)))
    params = COMMANDS[path].params
    flags = [param for param in params if isinstance(param, click.Option)]
    parts: list[tuple[str, ...]] = []
    for param in params:
        if isinstance(param, click.Argument):
            times = draw(st.sampled_from((1, 1, 1, 1, 0, 2)))
            parts += [(draw(_value(param)),) for _ in range(times)]
    chosen = draw(st.lists(st.sampled_from(flags), max_size=3, unique_by=id)) if flags else []
    parts += [draw(_flag(param)) for param in chosen]
    if draw(st.integers(0, 9)) == 0:
        parts.append(draw(_anything))
    words = [word for part in draw(st.permutations(parts)) for word in part]
    return (*path, *(word for word in words if "\0" not in word))


def _value(param: click.Parameter) -> st.SearchStrategy[str]:
    if param.name in {"output", "path"}:  # a file that is written to
        return st.sampled_from(("-", "", ".", "/nonexistent/x", "/dev/full", "\udcff"))
    return st.one_of(st.sampled_from(_sensible(param)), st.sampled_from(_sensible(param)), TEXT)


def _sensible(param: click.Parameter) -> tuple[str, ...]:
    """What such a parameter wants."""
    kind = param.type
    if isinstance(kind, click.Choice):
        return tuple(map(str, kind.choices))
    if isinstance(kind, SWITCHES):
        return ("true", "false")
    if isinstance(kind, GoDuration):
        return ("1ms", "0", "2s")
    if isinstance(kind, click.IntRange):
        return ("1", "80", "1280")
    return SENSIBLE.get(str(param.name), ("box", "100.64.0.2", "a=b", ""))


@st.composite
def _flag(draw: st.DrawFn, param: click.Parameter) -> tuple[str, ...]:
    name = draw(st.sampled_from(param.opts)).lstrip("-")
    dashes = "-" if len(name) == 1 else draw(st.sampled_from(("-", "--", "--", "--", "--no-")))
    value = draw(_value(param))
    if isinstance(param, click.Option) and (param.is_flag or isinstance(param.type, SWITCHES)):
        return draw(st.sampled_from(((f"{dashes}{name}",), (f"--{name}={value}",))))
    if dashes == "--no-":
        dashes = "--"
    return draw(st.sampled_from(((f"{dashes}{name}={value}",), (f"{dashes}{name}", value))))


_anything = TEXT.map(lambda text: (text,)) | TEXT.map(lambda text: (f"--{text}",))


def run(socket_path: Path | str, args: tuple[str, ...], folder: Path) -> Ended:
    """``tnet`` in this process, by its entry point; a wait is ended as by Ctrl-C."""
    runner_env = {"TS_AUTHKEY": "", "USER": "me", "TAILNETD_SOCKET": str(socket_path)}
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "strict") for _ in range(2))
    err.reconfigure(errors="backslashreplace")  # as the interpreter's own
    code: object = None
    with (
        mock.patch.dict(os.environ, runner_env),
        mock.patch.multiple(sys, stdin=open(os.devnull), stdout=out, stderr=err),
        contextlib.chdir(folder),
        _impatient(),
    ):
        try:
            main([*args])
        except SystemExit as ended:
            code = ended.code
        finally:
            sys.stdin.close()
            out.flush()
            err.flush()
    texts = (each.buffer.getvalue().decode(errors="replace") for each in (out, err))
    return Ended(args, code, *texts)


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """The user has no patience, and there is no network."""

    def interrupt(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    def no_network(*_: object, **__: object) -> NoReturn:
        raise OSError(101, "Network is unreachable")

    def next_line(self: Watch, timeout: float | None) -> bytes:
        try:
            return NEXT_LINE(self, min(timeout or 0.05, 0.05))
        except TimedOut:
            raise KeyboardInterrupt from None

    def stream(self: Client, method: str, name: str) -> Iterator[bytes]:
        yield next(STREAM(self, method, name))
        raise KeyboardInterrupt

    with (
        mock.patch.object(Client, "stream", stream),
        mock.patch.object(time, "sleep", interrupt),
        mock.patch.object(WebServer, "serve_forever", interrupt),
        mock.patch.object(socket, "getaddrinfo", no_network),
        mock.patch.object(socket, "create_connection", no_network),
        mock.patch.object(Watch, "next_line", next_line),
    ):
        yield


NEXT_LINE: Callable[[Watch, float | None], bytes] = Watch.next_line
STREAM: Callable[[Client, str, str], Iterator[bytes]] = Client.stream


def check(ended: Ended) -> None:
    """A documented exit code; nothing a terminal acts on; trouble is said."""
    assert ended.code in CODES, ended
    assert "Traceback" not in ended.stderr, ended
    assert "internal error" not in ended.stderr, ended  # of the daemon
    binary = "capture" in ended.args  # packets
    for stream in (ended.stderr,) if binary else (ended.stdout, ended.stderr):
        shown = stream.replace("\n", "").replace("\t", "")
        assert "\x1b" not in shown, ended
        assert shown.isprintable(), ended
    if ended.code == 2:
        assert ended.stderr, ended
