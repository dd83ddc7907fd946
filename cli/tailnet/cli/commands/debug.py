"""``tnet debug``: looks inside tailnetd; what it prints may change from version to version.

Source: tailscale cmd/tailscale/cli/debug.go.
"""

import click
from msgspec import json

from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.text import clean, table


@click.group(help="Look inside tailnetd, for people who debug it.")
def command() -> None:
    """Only a name for what is below."""


@command.command(
    "plan",
    cls=GoCommand,
    help="Print what follows from settings and network map: peers, routes, filter.",
)
@with_client
def plan(client: LocalClient) -> None:
    """The same plan is the same text, so that two can be compared."""
    tree = client.request("POST", "debug?action=plan")
    click.echo(json.format(tree, indent=2).decode())


@command.command(
    "drops", cls=GoCommand, help="Show what was dropped since the daemon's start, and why."
)
@with_client
def drops(client: LocalClient) -> None:
    """A line for each layer and reason; silent when nothing was."""
    layers = json.decode(
        client.request("POST", "debug?action=drops"), type=dict[str, dict[str, int]]
    )
    rows = [
        (layer, clean(reason), str(count))
        for layer, counts in layers.items()
        for reason, count in sorted(counts.items())
    ]
    for line in table(rows):
        click.echo(line)


@command.command(
    "clear-netmap-cache", cls=GoCommand, help="Remove the network map that is kept on disk."
)
@with_client
def clear_netmap_cache(client: LocalClient) -> None:
    """The next map is kept again."""
    client.request("POST", "debug?action=clear-netmap-cache")


@command.command("reload-config", cls=GoCommand, help="Read the configuration file again.")
@with_client
def reload_config(client: LocalClient) -> None:
    """Says so if there is none."""
    answer = json.decode(client.request("POST", "reload-config"), type=dict[str, object])
    if error := answer.get("Err"):
        raise Failure(str(error))
    if not answer.get("Reloaded"):
        msg = "tailnetd runs without a configuration file"
        raise Failure(msg)
    click.echo("configuration reloaded")
