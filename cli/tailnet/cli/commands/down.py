"""``tnet down``."""

import click

from tailnet.agent.localapi.schema.status import Status
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import warn
from tailnet.cli.flags import GoCommand
from tailnet.cli.risk import accept_risk as risks
from tailnet.cli.risk import ask

UNWRITTEN = "cannot write the state file"  # as the health message begins


@click.command(cls=GoCommand, help="Disconnect from the tailnet.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the daemon's log.")
@risks
@with_client
def command(client: LocalClient, *, reason: str, accept_risk: frozenset[str]) -> None:
    """Stop wanting to be connected."""
    before = client.status(peers=False)
    stopped = before.backend_state == "Stopped"
    if stopped and not _unwritten(before):
        warn("Tailscale was already stopped.")
        return
    if not stopped:
        ask(accept_risk, "this would end it")
    client.edit_prefs({"WantRunning": False}, reason)
    if problem := _unwritten(client.status(peers=False)):
        warn(f"disconnected until tailnetd or this machine starts again: {problem}")


def _unwritten(status: Status) -> str:
    """Why the daemon could not keep what it was told; empty if it could."""
    return next((text for text in status.health or () if text.startswith(UNWRITTEN)), "")
