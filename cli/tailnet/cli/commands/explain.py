"""``tnet explain``: both directions between this machine and a peer."""

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.completing import PEER
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.peers import find_node
from tailnet.cli.text import clean
from tailnet.cli.tracing import ask, describe, verdict


@click.command(cls=GoCommand, help="Show what stands between this machine and a peer, both ways.")
@click.argument("peer", type=PEER, metavar="PEER")
@with_client
def command(client: LocalClient, *, peer: str) -> None:
    """Two traces; exit code 1 if one of them is stopped."""
    status = client.status()
    name, address = peer, peer
    if status.backend_state == "Running":
        node = find_node(status, peer)
        name = node.dns_name.partition(".")[0] or node.host_name
        if node is status.self_ or not node.tailscale_ips:
            what = "this machine" if node is status.self_ else "a node without addresses"
            msg = f"{clean(peer)} is {what}"
            raise Failure(msg)
        address = node.tailscale_ips[0]
    stopped = False
    for title, src, dst in (("To", "", address), ("From", address, "self")):
        found = ask(client, src=src, dst=dst, proto="tcp", port=0)
        click.echo(f"{title} {clean(name)}:")
        for line in describe(found):
            click.echo(f"  {line}")
        click.echo(f"  {verdict(found)}")
        stopped = stopped or found.verdict == "stop"
    if stopped:
        raise SystemExit(1)
