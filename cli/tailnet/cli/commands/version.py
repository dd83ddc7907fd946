"""``tnet version``."""

import click

from tailnet.agent.localapi.schema import VERSION
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.login import say
from tailnet.cli.text import clean


@click.command(cls=GoCommand, help="Show versions.")
@flag("daemon", help="Show the daemon's version too.")
@flag("json", help="Output JSON.")
@with_client
def command(client: LocalClient, *, daemon: bool, json: bool) -> None:
    """The daemon is asked only if wanted."""
    theirs = clean(client.status(peers=False).version) if daemon else ""
    if json:
        say(majorMinorPatch=VERSION, short=VERSION, long=VERSION, daemonLong=theirs)
    elif daemon:
        click.echo(f"Client: {VERSION}\nDaemon: {theirs}")
    else:
        click.echo(VERSION)
