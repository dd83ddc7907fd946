"""``tnet exit-node``: which peers offer to carry traffic to the internet, and using one.

Source: tailscale cmd/tailscale/cli/exitnode.go.
"""

from collections.abc import Mapping
from typing import Any

import click
from msgspec import Struct

from tailnet.agent.localapi.schema.status import PeerStatus, Status
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.terminal import fitted
from tailnet.cli.text import clean

NONE = "no exit nodes found"
NO_SUGGESTION = "No exit node suggestion is available."
HEADER = ("IP", "HOSTNAME", "COUNTRY", "CITY", "STATUS")


class Suggestion(Struct, frozen=True, rename={"id": "ID", "name": "Name"}):
    """``GET suggest-exit-node``; empty if there is none."""

    id: str = ""
    name: str = ""


@click.group(help="List exit nodes (list), suggest one (suggest), use one or none.")
def command() -> None:
    """Only a name for what is below."""


@command.command("list", cls=GoCommand, help="List the peers that offer it.")
@click.option("--filter", "country", default="", metavar="COUNTRY", help="Only of this country.")
@with_client
def list_nodes(client: LocalClient, *, country: str) -> None:
    """A table, by country, city and name."""
    nodes = options(client.status())
    if country:
        nodes = [node for node in nodes if country.lower() in _country(node)]
    if not nodes:
        raise Failure(f"{NONE} in {clean(country)!r}" if country else NONE)
    rows = [
        (
            clean((node.tailscale_ips or ("",))[0]),
            _name(node),
            _of(node, "Country") or "-",
            _of(node, "City") or "-",
            _state(node),
        )
        for node in nodes
    ]
    for line in fitted([HEADER, *rows]):
        click.echo(line)
    click.echo("\nTo use one: tnet set --exit-node=HOSTNAME; none: tnet set --exit-node=")


@command.command("suggest", cls=GoCommand, help="Name the one that would serve best.")
@with_client
def suggest(client: LocalClient) -> None:
    """With the command that takes it."""
    name = clean(client.get("suggest-exit-node", Suggestion).name.rstrip("."))
    if not name:
        click.echo(NO_SUGGESTION)
        return
    click.echo(f"Suggested exit node: {name}.")
    click.echo(f"To accept this suggestion, use `tnet set --exit-node={name}`.")


@command.command("connect", cls=GoCommand, help="Use the exit node that was used last.")
@with_client
def connect(client: LocalClient) -> None:
    """As the switch of a graphical client."""
    client.request("POST", "set-use-exit-node-enabled?enabled=true")


@command.command("disconnect", cls=GoCommand, help="Use no exit node, and remember which it was.")
@with_client
def disconnect(client: LocalClient) -> None:
    """``connect`` undoes it."""
    client.request("POST", "set-use-exit-node-enabled?enabled=false")


def options(status: Status) -> list[PeerStatus]:
    """The peers that offer it, by place and name."""
    peers = (status.peer or {}).values()
    return sorted(
        (p for p in peers if p.exit_node_option),
        key=lambda p: (_of(p, "Country"), _of(p, "City"), p.dns_name),
    )


def _of(node: PeerStatus, field: str) -> str:
    """A word about where it is; empty if that is not known."""
    where: Mapping[str, Any] | Any = node.location
    return clean(str(where.get(field, ""))) if isinstance(where, dict) else ""


def _country(node: PeerStatus) -> tuple[str, str]:
    return _of(node, "Country").lower(), _of(node, "CountryCode").lower()


def _name(node: PeerStatus) -> str:
    return clean(node.dns_name.rstrip(".") or node.host_name)


def _state(node: PeerStatus) -> str:
    if node.exit_node:
        return "selected" if node.online else "selected but offline"
    return "-" if node.online else "offline"
