"""``tnet whoami``: ``whois`` of this machine, and its tailnet.

Source: tailscale cmd/tailscale/cli/whoami.go.
"""

import click
from msgspec import json as msgjson

from tailnet.agent.localapi.schema.basics import decode
from tailnet.agent.localapi.schema.identity import WhoIs
from tailnet.agent.localapi.schema.status import TailnetStatus
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.identity import describe
from tailnet.cli.jsontext import indented
from tailnet.cli.text import clean


@click.command(cls=GoCommand, help="Show who this machine is in its tailnet.")
@flag("json", help="Output JSON.")
@with_client
def command(client: LocalClient, *, json: bool) -> None:
    """Two questions, one answer."""
    status = client.status(peers=False)
    if not status.tailscale_ips:
        msg = f"no current Tailscale IPs; state: {clean(status.backend_state)}"
        raise Failure(msg)
    answer = client.request("GET", f"whois?addr={status.tailscale_ips[0]}")
    tailnet = status.current_tailnet or TailnetStatus()
    if json:
        tree = {**msgjson.decode(answer), "CurrentTailnet": tailnet}
        click.echo(indented(tree))
        return
    try:
        who = decode(answer, WhoIs)
    except ValueError as error:
        raise Failure(str(error)) from None
    for line in describe(who, (tailnet.name, tailnet.magic_dns_suffix)):
        click.echo(line)
