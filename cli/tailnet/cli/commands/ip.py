"""``tnet ip``.

Source: tailscale cmd/tailscale/cli/ip.go.
"""

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.completing import PEER
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.peers import find_node
from tailnet.cli.text import clean


@click.command(cls=GoCommand, help="Show addresses of this machine or a peer, one a line.")
@click.argument("peer", type=PEER, default="", metavar="[PEER]")
@click.option("-1", "first", is_flag=True, help="Show only the first.")
@click.option("-4", "only4", is_flag=True, help="Show only the IPv4 address.")
@click.option("-6", "only6", is_flag=True, help="Show only the IPv6 address.")
@click.option(
    "--assert", "wanted", default="", metavar="IP", help="Fail if this is not this machine's."
)
@with_client
def command(  # noqa: PLR0913 - one a flag
    client: LocalClient, *, peer: str, first: bool, only4: bool, only6: bool, wanted: str
) -> None:
    """Ask once, print."""
    if first + only4 + only6 > 1:
        msg = "tnet ip -1, -4, and -6 are mutually exclusive"
        raise click.UsageError(msg)
    status = client.status(peers=bool(peer))
    mine = status.tailscale_ips or ()
    if wanted:
        if wanted not in mine:
            msg = f'assertion failed: IP "{wanted}" not found among [{" ".join(map(clean, mine))}]'
            raise Failure(msg)
        return
    ips = find_node(status, peer).tailscale_ips if peer else mine
    if not ips:
        msg = f"no current Tailscale IPs; state: {clean(status.backend_state)}"
        raise Failure(msg)
    shown = [ip for ip in ips if not (only4 and ":" in ip) and not (only6 and ":" not in ip)]
    if not shown:
        msg = f"no Tailscale IPv{4 if only4 else 6} address"
        raise Failure(msg)
    for ip in shown[:1] if first else shown:
        click.echo(clean(ip))
