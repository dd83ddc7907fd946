"""``tnet debug portmap``: what the router does for us, or would.

Source: tailscale cmd/tailscale/cli/debug-portmap.go.
"""

import click
import msgspec
from msgspec import json

from tailnet.cli.client import LocalClient
from tailnet.cli.commands.debug_raw import lines_of
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import DURATION, GoCommand, flag
from tailnet.cli.terminal import fitted
from tailnet.cli.text import clean
from tailnet.cli.working import Working
from tailnet.client.questions import joined


class PortmapAnswer(
    msgspec.Struct,
    rename={
        "upnp": "UPnP",
        "pmp": "PMP",
        "pcp": "PCP",
        "external": "External",
        "ignored": "Ignored",
    },
):
    """What the router can."""

    upnp: bool | None
    pmp: bool | None
    pcp: bool | None
    external: str
    ignored: dict[str, int]


@click.command("portmap", cls=GoCommand, help="Ask the router which port mapping it can do.")
@click.option("--duration", type=DURATION, metavar="DURATION", help="Tell everything; so long.")
@click.option(
    "--type", "kind", type=click.Choice(["pmp", "pcp", "upnp"]), help="Try this one alone."
)
@click.option("--gateway-addr", metavar="IP", help="Of the router to ask.")
@click.option("--self-addr", metavar="IP", help="Ours towards that router.")
@flag("log-http", help="Upstream's: requests by HTTP are always told.")
@with_client
def portmap(client: LocalClient, **asked: object) -> None:
    """In short, in up to two seconds; with any flag everything that is said."""
    if any(asked.values()):
        _tell(client, asked)
    else:
        _sum_up(client)


def _tell(client: LocalClient, asked: dict[str, object]) -> None:
    query: dict[str, object] = {"duration": f"{asked['duration'] or 5.0:g}s"}
    if asked["kind"]:
        query["type"] = asked["kind"]
    if (gateway := asked["gateway_addr"]) or asked["self_addr"]:
        from ipaddress import IPv4Address  # noqa: PLC0415 - seldom needed

        try:
            ends = IPv4Address(str(gateway)), IPv4Address(str(asked["self_addr"]))
        except ValueError:
            msg = "--gateway-addr and --self-addr go together, and are IPv4 addresses"
            raise Failure(msg) from None
        query["gateway_and_self"] = f"{ends[0]}/{ends[1]}"
    for line in lines_of(client.stream("GET", f"debug-portmap?{joined(query)}")):
        click.echo(clean(line.decode(errors="replace")))


def _sum_up(client: LocalClient) -> None:
    with Working("asking the router"):
        answer = client.request("POST", "debug?action=portmap")
    about = json.decode(answer, type=PortmapAnswer)
    words = {True: "yes", False: "no", None: "not asked"}
    rows = [
        ("UPnP", words[about.upnp]),
        ("NAT-PMP", words[about.pmp]),
        ("PCP", words[about.pcp]),
        ("mapped to", about.external or "nothing"),
        *((f"ignored: {clean(why)}", str(count)) for why, count in sorted(about.ignored.items())),
    ]
    for line in fitted(rows):
        click.echo(line)
