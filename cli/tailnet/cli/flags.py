"""Flags in Go's grammar, on click.

One dash or two; ``--flag=value`` or ``--flag value``; a boolean is ``--flag``, ``--flag=false`` or
``--no-flag``; a flag given twice is an error.  Flags and arguments may come in any order.

Source: Go's package flag; tailscale cmd/tailscale/cli/cli.go.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar, cast

import click

from tailnet.cli.text import parse_duration

F = TypeVar("F", bound=Callable[..., Any])

ALIASES = {"authkey": "auth-key", "control-url": "login-server"}
"""Spellings of others; a flag of that very name comes first."""

LATER = frozenset(
    """
    advertise-connector auto-update posture-checking remote-config report-posture ssh sync
    track unattended update-check upstream webclient
    """.split()  # noqa: SIM905 - one name a word reads better
)
"""Upstream's flags that a later version will have."""

PAGE = "the page is for this machine; from another one: ssh -L 8088:localhost:8088"
KEYS = "a private key never leaves the daemon"
SERVER = "the account's server is reached as the daemon reaches it"

SURROGATES = re.compile("[\ud800-\udfff]")  # bytes of an argument that are no text
ELSEWHERE = {
    "web": "the page is served by: tnet web",
    "listen": "the page is served by: tnet web --listen=…",
    "browser": "tnet web prints the address of the page; open it yourself",
    "host-routes": "routes to peers are always there",
    "suggest --force-probe": "nothing is probed for a suggestion",
    "web --cgi": PAGE,
    "web --prefix": PAGE,
    "web --origin": PAGE,
    "web --readonly": "the page changes nothing without --actions",
    "completion --flags": "flags are always completed",
    "completion --descs": "descriptions come where the shell shows them",
    "metrics --watch": "see: watch -d tnet debug metrics",
    "ts2021 --host": SERVER,
    "ts2021 --version": SERVER,
    "ts2021 --verbose": "it always says everything",
    "ts2021 --ace": SERVER,
    "ts2021 --dial-plan": SERVER,
    "ts2021 --connect-ip": SERVER,
    "ts2021 --force-port": SERVER,
    "watch-ipn --rate-limit": "fewer notices: --peer-changes=false --netmap=false",
    "watch-ipn --show-private-key": KEYS,
    "netmap --show-private-key": KEYS,
    "configure --http": "it is for kubeconfig, which is not supported",
    "configure --enable-startup": "there is no tray icon; a page in the browser: tnet web",
    "localapi -v": "curl has it; see: tnet debug local-creds",
}
"""Upstream's flags whose work something else does; some of one command alone."""

TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


class GoBool(click.ParamType[bool]):
    """``true`` or ``false`` as strconv.ParseBool reads them."""

    name = "true|false"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bool:
        """Parse."""
        if isinstance(value, bool):
            return value
        if value not in TRUE and value not in FALSE:
            self.fail(f"{value!r} is neither true nor false", param, ctx)
        return value in TRUE


class BoolOrList(click.ParamType["bool | list[str]"]):
    """A boolean, or items with commas between them; as a flag without value it is true."""

    name = "true|false|items"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bool | list[str]:
        """Parse; what the items mean is the daemon's to say."""
        if isinstance(value, bool) or value in TRUE or value in FALSE:
            return BOOL.convert(value, param, ctx)
        items = [item for part in str(value).split(",") if (item := part.strip())]
        if not items:
            self.fail("it is true, false or a list of items", param, ctx)
        return list(dict.fromkeys(items))


class GoDuration(click.ParamType[float]):
    """A duration such as ``1m30s``, as seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


BOOL = GoBool()
BOOL_OR_LIST = BoolOrList()
SWITCHES = (GoBool, BoolOrList)  # they need no value
DURATION = GoDuration()


def flag(name: str, *, default: bool = False, help: str, hidden: bool = False) -> Callable[[F], F]:  # noqa: A002
    """A boolean option."""
    return click.option(
        f"--{name}", type=BOOL, default=default, metavar="", help=help, hidden=hidden
    )


def gathered(name: str, of: Any, *options: Callable[[Any], Any]) -> Callable[[F], F]:  # noqa: ANN401 - a class
    """Flags that a command takes as one argument.

    Args:
        name: of that argument.
        of: a dataclass whose fields are called as the flags, with ``_`` for ``-``.
        options: click's, in the order of the help.
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def gather(*args: object, **values: object) -> object:
            parts = {field.name: values.pop(field.name) for field in fields(of)}
            return function(*args, **{name: of(**parts)}, **values)

        command: Any = gather
        for option in reversed(options):
            command = option(command)
        return cast("F", command)

    return decorate


class GoCommand(click.Command):
    """A command with such flags; ``ctx.meta["given"]`` maps those that were given to their text."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Bring the arguments into the one form that click reads without guessing."""
        if any(not text.isascii() and SURROGATES.search(text) for text in args):
            msg = "an argument is not text in UTF-8"
            raise click.UsageError(msg, ctx)
        options = {
            name.lstrip("-"): param
            for param in self.get_params(ctx)
            if isinstance(param, click.Option)
            for name in param.opts
        }
        given: dict[str, str] = {}
        rest: list[str] = []
        queue = list(args)
        while queue:
            arg = queue.pop(0)
            if arg == "--":
                rest += queue
                break
            if arg == "-" or not arg.startswith("-"):
                rest.append(arg)
                continue
            try:
                name, value = _parse_one(arg, queue, options, ctx)
            except click.UsageError:
                if ctx.resilient_parsing:  # a shell asks how it may go on
                    continue
                raise
            if name in given:
                msg = f"flag provided multiple times: {_dashed(name)}"
                raise click.UsageError(msg, ctx)
            given[name] = value
        ctx.meta["given"] = given
        flat: list[str] = []
        for name, value in given.items():
            if options[name].is_flag:
                flat += [_dashed(name)] if BOOL.convert(value, options[name], ctx) else []
            else:
                flat += [_dashed(name), value] if len(name) == 1 else [f"--{name}={value}"]
        return super().parse_args(ctx, [*flat, "--", *rest])


def _parse_one(
    arg: str, queue: list[str], options: dict[str, click.Option], ctx: click.Context
) -> tuple[str, str]:
    """Name and value of one flag; a value in an argument of its own is taken from ``queue``."""
    name, equals, value = arg.lstrip("-").partition("=")
    name, negated = _resolve(name, options, ctx)
    if negated and equals:
        msg = f"--no-{name} takes no value"
        raise click.UsageError(msg, ctx)
    if equals:
        return name, value
    if options[name].is_flag or isinstance(options[name].type, SWITCHES):
        return name, "false" if negated else "true"
    if not queue:
        msg = f"flag needs a value: {_dashed(name)}"
        raise click.UsageError(msg, ctx)
    return name, queue.pop(0)


def _dashed(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name}"


def _resolve(name: str, options: dict[str, click.Option], ctx: click.Context) -> tuple[str, bool]:
    """The option that is meant, and whether it is negated.

    Raises:
        click.UsageError: none is.
    """
    for candidate in (name, ALIASES.get(name, "")):
        if candidate in options:
            return candidate, False
    if name.startswith("no-") and isinstance(
        getattr(options.get(name[3:]), "type", None), SWITCHES
    ):
        return name[3:], True
    if name.removeprefix("no-") in LATER:
        msg = f"--{name} is not supported yet"
        raise click.UsageError(msg, ctx)
    plain = name.removeprefix("no-")
    if words := ELSEWHERE.get(f"{ctx.info_name} {_dashed(plain)}") or ELSEWHERE.get(plain):
        msg = f"there is no {_dashed(name)} here: {words}"
        raise click.UsageError(msg, ctx)
    msg = f"unknown flag: {_dashed(name)}{suggest(name, options, '--')}"
    raise click.UsageError(msg, ctx)


def suggest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean X?``, or nothing."""
    import difflib  # noqa: PLC0415 - only a mistake needs it

    close = difflib.get_close_matches(word, [k for k in known if len(k) > 1], 1, 0.6)
    return f"; did you mean {prefix}{close[0]}?" if close else ""
