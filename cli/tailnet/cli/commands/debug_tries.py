"""``tnet debug``: what is tried out, by the daemon or here.

Source: tailscale cmd/tailscale/cli/debug.go, debug-portmap.go.
"""

import socket

import click
from msgspec import json

from tailnet.agent.localapi.schema.basics import decode
from tailnet.agent.localapi.schema.experiments import RegionReport
from tailnet.cli import risk
from tailnet.cli.client import LocalClient
from tailnet.cli.commands.debug_raw import show
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.peers import find_node
from tailnet.cli.text import clean
from tailnet.cli.working import Working
from tailnet.client.questions import joined

SEVERAL_SECONDS = 60.0  # that the daemon may take


@click.command("derp", cls=GoCommand, help="Try the relays of a region, by its number or code.")
@click.argument("region")
@with_client
def derp(client: LocalClient, *, region: str) -> None:
    """Fails if one of them does not do."""
    with Working("trying the relays"):
        answer = client.request(
            "POST", f"debug-derp-region?{joined({'region': region})}", timeout=SEVERAL_SECONDS
        )
    about = decode(answer, RegionReport)
    for word, lines in (("ok", about.info), ("warning", about.warnings), ("error", about.errors)):
        for line in lines:
            click.echo(f"{word}: {clean(line)}")
    if about.errors:
        raise SystemExit(1)


@click.command("force-prefer-derp", cls=GoCommand, help="Have this region as home; 0: any.")
@click.argument("region", type=click.IntRange(0, (1 << 31) - 1))
@with_client
def force_prefer_derp(client: LocalClient, *, region: int) -> None:
    """As long as it answers, until the daemon's next start."""
    client.request("POST", "debug?action=force-prefer-derp", region)


@click.command(
    "peer-endpoint-changes", cls=GoCommand, help="Show how the way to a peer changed, as JSON."
)
@click.argument("peer")
@with_client
def peer_endpoint_changes(client: LocalClient, *, peer: str) -> None:
    """Oldest first."""
    address = _address(client, peer)
    show(client.request("GET", f"debug-peer-endpoint-changes?{joined({'ip': address})}"))


@click.command("dial-types", cls=GoCommand, help="Connect in each way there is, and hang up.")
@click.argument("host")
@click.argument("port", type=click.IntRange(1, 65535))
@click.option("--network", type=click.Choice(["tcp", "tcp4", "tcp6"]), default="tcp", help="")
@with_client
def dial_types(client: LocalClient, *, host: str, port: int, network: str) -> None:
    """Outside the tunnel, as tnet nc does, into the tunnel, and as any program would."""
    query = joined({"ip": _address(client, host), "port": port, "network": network})
    with Working("connecting"):
        answer = client.request("POST", f"debug-dial-types?{query}")
    show(answer)


def _address(client: LocalClient, name: str) -> str:
    """An address as it is; a node's first one."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, name))
        except (OSError, UnicodeError):
            continue
    node = find_node(client.status(), name)
    if not node.tailscale_ips:
        msg = f"{clean(name)} has no address"
        raise Failure(msg)
    return node.tailscale_ips[0]


@click.command("ts2021", cls=GoCommand, help="Reach the control server as for a session.")
@with_client
def ts2021(client: LocalClient) -> None:
    """Key, then Noise; under a machine key that nobody knows."""
    with Working("asking the control server"):
        answer = client.request("POST", "debug?action=ts2021", timeout=SEVERAL_SECONDS)
    said = json.decode(answer, type=list[str])
    for line in said:
        click.echo(clean(line))
    if len(said) < 2 or "Noise" not in said[-1]:
        raise SystemExit(1)


@click.command("test-risk", cls=GoCommand, help="Ask back as before something risky; do nothing.")
@risk.accept_risk
def test_risk(*, accept_risk: frozenset[str]) -> None:
    """Upstream's words for the end."""
    risk.ask(accept_risk, "this is a test of a risky action")
    click.echo("did-test-risky-action")


COMMANDS = (
    derp,
    force_prefer_derp,
    peer_endpoint_changes,
    dial_types,
    ts2021,
    test_risk,
)
