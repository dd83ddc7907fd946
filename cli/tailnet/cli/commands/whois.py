"""``tnet whois``.

Source: tailscale cmd/tailscale/cli/whois.go.
"""

import click

from tailnet.agent.localapi.schema.basics import decode
from tailnet.agent.localapi.schema.identity import WhoIs
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.identity import describe
from tailnet.cli.jsontext import indented
from tailnet.cli.text import clean
from tailnet.client.errors import Refused
from tailnet.client.questions import quoted

NOT_FOUND = 404


@click.command(cls=GoCommand, help="Show the machine and the user behind an address.")
@click.argument("address", metavar="IP[:PORT]")
@flag("json", help="Output JSON.")
@click.option(
    "--proto",
    type=click.Choice(["tcp", "udp"]),
    help="Protocol of the port; an address has one owner, so it changes nothing here.",
)
@with_client
def command(client: LocalClient, *, address: str, json: bool, proto: str | None) -> None:
    """Ask once, print."""
    question = f"whois?addr={quoted(address)}" + (f"&proto={proto}" if proto else "")
    try:
        answer = client.request("GET", question)
    except Refused as error:
        if error.status != NOT_FOUND:
            raise
        msg = f"no node of this tailnet has the address {clean(address)}"
        raise Failure(msg) from None
    if json:
        click.echo(indented(answer))
        return
    try:
        who = decode(answer, WhoIs)
    except ValueError as error:
        raise Failure(str(error)) from None
    for line in describe(who):
        click.echo(line)
