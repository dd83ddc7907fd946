"""``tnet debug``: what needs no daemon.

Source: tailscale cmd/tailscale/cli/debug.go, runEnv, runStat, runResolve.
"""

import os
import socket
import stat as modes

import click

from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.text import clean

SECRET = ("KEY", "SECRET", "TOKEN", "PASSWORD")  # in the name of a variable whose value is hidden
SHOWN = 25  # entries of a folder
FAMILIES = {"ip": socket.AF_UNSPEC, "ip4": socket.AF_INET, "ip6": socket.AF_INET6}


@click.command("env", cls=GoCommand, help="Print the environment of tnet, without secrets.")
def env() -> None:
    """A line for each variable."""
    for name, value in os.environ.items():
        hidden = any(word in name.upper() for word in SECRET)
        click.echo(f"{clean(name)}={'…' if hidden else clean(value)}")


@click.command("stat", cls=GoCommand, help="Show what files are, and what is in folders.")
@click.argument("files", nargs=-1, metavar="FILE...")
def stat(files: tuple[str, ...]) -> None:
    """Mode and size; of a folder the first names."""
    for name in files:
        try:
            about = os.lstat(name)
            click.echo(f"{clean(name)}: {modes.filemode(about.st_mode)}, {about.st_size}")
            inside = sorted(os.listdir(name)) if modes.S_ISDIR(about.st_mode) else []
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            click.echo(f"{clean(name)}: {reason or error}")
            continue
        for entry in inside[:SHOWN]:
            click.echo(f"  - {clean(entry)}")
        if len(inside) > SHOWN:
            click.echo("  ...")


@click.command("resolve", cls=GoCommand, help="Ask this system for a name's addresses.")
@click.argument("name")
@click.option("--net", type=click.Choice(list(FAMILIES)), default="ip", help="")
def resolve(*, name: str, net: str) -> None:
    """As any program would; ``tnet dns query`` asks tailnetd."""
    try:
        found = socket.getaddrinfo(name, None, FAMILIES[net], socket.SOCK_STREAM)
    except (OSError, UnicodeError, ValueError) as error:
        msg = f"{clean(name)}: {getattr(error, 'strerror', None) or error}"
        raise Failure(msg) from None
    for address in dict.fromkeys(str(info[4][0]) for info in found):
        click.echo(clean(address))


COMMANDS = (env, stat, resolve)
