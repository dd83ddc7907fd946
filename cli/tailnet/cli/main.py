"""``tnet``: finds the command and imports nothing else.

Source: tailscale cmd/tailscale/cli/cli.go.
"""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click

from tailnet.cli.flags import suggest
from tailnet.cli.terminal import room
from tailnet.cli.text import clean

COMMANDS = {
    "up": "Connect to the tailnet, logging in if needed",
    "login": "Log in to a tailnet",
    "down": "Disconnect from the tailnet",
    "set": "Change some settings",
    "get": "Show settings",
    "logout": "Disconnect, expire the current login and forget it",
    "switch": "Use another account, list or remove accounts",
    "status": "Show the state of tailnetd and its connections",
    "top": "Show which peers the traffic is with, live",
    "ip": "Show addresses of this machine or a peer",
    "whois": "Show who is behind an address",
    "whoami": "Show who this machine is in its tailnet",
    "routes": "List the routes of the tailnet, and what becomes of them",
    "dns": "Show how names are resolved, or what one is",
    "exit-node": "List exit nodes, or suggest one",
    "ping": "Ping a peer, and see how it is reached",
    "path": "Show how a peer is reached, and why so",
    "trace": "Show how a packet gets to a peer or from one, or what stops it",
    "explain": "Show what stands between this machine and a peer",
    "netcheck": "Measure the network, and the latencies of relays",
    "nc": "Connect to a port of a peer, with standard input and output",
    "metrics": "Print what the daemon counts, for Prometheus",
    "bugreport": "Mark this moment in the daemon's log, and save what helps",
    "web": "Serve a page about this node, for a browser on this machine",
    "wait": "Wait until this machine is connected",
    "install": "Make tailnetd a service of this machine",
    "uninstall": "Remove that service",
    "configure": "Set up other systems (none of them is one of these)",
    "completion": "Print the completion script of a shell",
    "licenses": "Show the licenses of what tailnetd is made of",
    "version": "Show versions",
    "debug": "Look inside tailnetd",
}


ELSEWHERE = {
    "appc-routes": "app connectors are not supported yet",
    "cert": "certificates are not supported yet",
    "drive": "Taildrive is not supported yet",
    "file": "Taildrop is not supported yet",
    "funnel": "serving is not supported yet",
    "id-token": "it is not supported yet",
    "lock": "Tailnet Lock is not supported yet",
    "routecheck": "see: tnet routes",
    "serve": "serving is not supported yet",
    "service": "Tailscale Services are not supported yet",
    "ssh": "Tailscale SSH is not supported yet; ssh -o ProxyCommand='tnet nc %h %p' USER@PEER",
    "syspolicy": "there are no system policies on Linux; see: tailnetd --config",
    "systray": "there is no tray icon; a page in the browser: tnet web",
    "update": "update tailnet with what installed it: pip, or the system's packages",
}
"""Upstream's other commands, and what to say to those who try them."""

MODULES = {"trace": "trace_packet"}  # the standard library has a module of that name


@contextmanager
def _without(name: str) -> Iterator[None]:
    """A module that others do as well without, and that takes as long as all of ours to load."""
    there = name in sys.modules
    if not there:
        sys.modules[name] = None  # type: ignore[assignment] # as if it were not installed
    try:
        yield
    finally:
        if not there:
            del sys.modules[name]


LEAST = 52  # columns; for less click writes its help as for so many


class LazyGroup(click.Group):
    """Imports a command's module when the command is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import it."""
        if cmd_name not in COMMANDS:
            return None
        name = MODULES.get(cmd_name, cmd_name.replace("-", "_"))
        with _without("typing_extensions"):  # msgspec takes the same from typing, ours is 3.11
            module = importlib.import_module(f"tailnet.cli.commands.{name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """With a suggestion if there is none of that name."""
        if args and args[0] in ELSEWHERE and args[0] not in COMMANDS:
            msg = f"there is no tnet {args[0]}: {ELSEWHERE[args[0]]}"
            raise click.UsageError(msg, ctx)
        if args and args[0] not in COMMANDS and not ctx.resilient_parsing:
            msg = f"unknown command: {args[0]}{suggest(args[0], COMMANDS)}"
            raise click.UsageError(msg, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Go's one-dash flags, and the other spellings of version and help."""
        if args and args[0] in ("-V", "--version", "-version"):
            args = ["version", *args[1:]]
        elif args and args[0] in ("help", "-help"):
            args = [*args[1:2], "--help"]
        elif args and (args[0] == "-socket" or args[0].startswith("-socket=")):
            args = ["-" + args[0], *args[1:]]
        return super().parse_args(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Talk to tailnetd, the daemon that joins this machine to a tailnet.",
)
@click.option(
    "--socket",
    metavar="PATH",
    envvar="TAILNETD_SOCKET",
    help="Unix socket of tailnetd (default /run/tailnetd/tailnetd.sock).",
)
@click.pass_context
def cli(ctx: click.Context, socket: str | None) -> None:
    """Remember whom to talk to."""
    ctx.obj = socket


def plain(error: click.UsageError) -> str:
    """In one line, and without a type of click's for a number."""
    text = " ".join(error.format_message().split())
    return text.replace("is not a valid integer range.", "is not a number.")


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Entry point of ``tnet``.  Usage errors are one line, as all errors are."""
    try:
        columns = room() or LEAST
        width = max(1, columns) if columns < LEAST else None
        sys.exit(cli.main(args, prog_name="tnet", standalone_mode=False, terminal_width=width) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(error.exit_code)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "tnet"
        click.echo(f"{clean(plain(error))} (see {where} --help)", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)  # as a shell counts SIGINT
    except OSError as error:  # commands say what they cannot do: this is about their output
        click.echo(f"cannot write: {error.strerror or error}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still to be flushed
        sys.exit(1)
