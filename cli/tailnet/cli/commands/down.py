"""``tnet down``."""

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import warn
from tailnet.cli.flags import GoCommand
from tailnet.cli.risk import accept_risk as risks
from tailnet.cli.risk import ask


@click.command(cls=GoCommand, help="Disconnect from the tailnet.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the daemon's log.")
@risks
@with_client
def command(client: LocalClient, *, reason: str, accept_risk: frozenset[str]) -> None:
    """Stop wanting to be connected."""
    if client.status(peers=False).backend_state == "Stopped":
        warn("Tailscale was already stopped.")
        return
    ask(accept_risk, "this would end it")
    client.edit_prefs({"WantRunning": False}, reason)
