"""``tnet logout``."""

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.flags import GoCommand
from tailnet.cli.working import Working
from tailnet.client import questions


@click.command(cls=GoCommand, help="Disconnect and expire the current login.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the daemon's log.")
@with_client
def command(client: LocalClient, *, reason: str) -> None:
    """Ask the daemon to."""
    with Working("telling the server"):
        client.ask(questions.logout(reason))
