"""``tnet exit-node``: which peers offer to carry traffic to the internet.

Source: tailscale cmd/tailscale/cli/exitnode.go.
"""

import click

from tailnet.agent.localapi.schema.status import PeerStatus, Status
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.text import clean, table

NONE = "no exit nodes found"


@click.command(cls=GoCommand, help="List exit nodes (list), or suggest the best one (suggest).")
@click.argument("action", type=click.Choice(["list", "suggest"]))
@with_client
def command(client: LocalClient, *, action: str) -> None:
    """A table, or one name."""
    status = client.status()
    nodes = options(status)
    if not nodes:
        raise Failure(NONE)
    if action == "suggest":
        name = _name(best(status, nodes))
        click.echo(f"Suggested exit node: {name}.")
        click.echo(f"To accept this suggestion, use `tnet set --exit-node={name}`.")
        return
    rows = [("IP", "HOSTNAME", "STATUS")]
    rows += [((node.tailscale_ips or ("",))[0], _name(node), _state(node)) for node in nodes]
    for line in table(rows):
        click.echo(line)


def options(status: Status) -> list[PeerStatus]:
    """The peers that offer it, by name."""
    peers = (status.peer or {}).values()
    return sorted((p for p in peers if p.exit_node_option), key=lambda p: p.dns_name)


def best(status: Status, nodes: list[PeerStatus]) -> PeerStatus:
    """Online if one is, and with our own home relay if one has it."""
    home = status.self_.relay if status.self_ else ""
    return min(nodes, key=lambda node: (not node.online, node.relay != home, node.dns_name))


def _name(node: PeerStatus) -> str:
    return clean(node.dns_name.rstrip(".") or node.host_name)


def _state(node: PeerStatus) -> str:
    if node.exit_node:
        return "selected" if node.online else "selected but offline"
    return "-" if node.online else "offline"
