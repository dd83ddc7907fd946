"""``tnet ping``.

Source: tailscale cmd/tailscale/cli/ping.go.
"""

import time
from urllib.parse import quote

import click

from tailnet.agent.localapi.schema import PingResult, decode
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import DURATION, GoCommand, flag
from tailnet.cli.peers import find_node
from tailnet.cli.text import clean, format_latency
from tailnet.client.errors import TimedOut

INTERVAL = 1.0  # seconds between pings


@click.command(cls=GoCommand, help="Ping a peer, and see how it is reached.")
@click.argument("host")
@flag("verbose", help="Say which address is pinged.")
@flag("until-direct", default=True, help="Stop once a direct path is there.")
@click.option(
    "-c", "count", type=click.IntRange(0), default=10, metavar="N", help="Pings; 0 is endless."
)
@click.option(
    "--timeout", type=DURATION, default=5.0, metavar="DURATION", help="Patience for each ping."
)
@click.option(
    "--size", type=click.IntRange(0, 65535), default=0, metavar="BYTES", help="Size of the ping."
)
@with_client
def command(  # noqa: PLR0913 - one a flag
    client: LocalClient,
    *,
    host: str,
    verbose: bool,
    until_direct: bool,
    count: int,
    timeout: float,
    size: int,
) -> None:
    """Until direct, or enough."""
    status = client.status()
    if status.backend_state != "Running":
        msg = f"not connected; state: {clean(status.backend_state)}"
        raise Failure(msg)
    node = find_node(status, host)
    if not node.tailscale_ips:
        msg = f"{clean(host)} has no address"
        raise Failure(msg)
    ip = host if host in node.tailscale_ips else node.tailscale_ips[0]
    if verbose and ip != host:
        click.echo(f'lookup "{clean(host)}" => "{clean(ip)}"')
    if node is status.self_:
        click.echo(f"{clean(ip)} is local Tailscale IP")
        return
    _ping(client, ip, size=size, count=count, timeout=timeout, until_direct=until_direct)


def _ping(  # noqa: PLR0913 - one a flag
    client: LocalClient, ip: str, *, size: int, count: int, timeout: float, until_direct: bool
) -> None:
    name = f"ping?ip={quote(ip)}&type=disco&size={size}"
    pongs = sent = 0
    while not count or sent < count:
        if sent:
            time.sleep(INTERVAL)
        sent += 1
        try:
            result = decode(client.request("POST", name, timeout=timeout or None), PingResult)
        except TimedOut:
            click.echo(f'ping "{clean(ip)}" timed out')
            continue
        except ValueError as error:
            raise Failure(str(error)) from None
        if result.err.startswith("timeout"):
            click.echo(f'ping "{clean(ip)}" timed out')
            continue
        if result.err:
            if result.is_local_ip is True:
                click.echo(clean(result.err))
                return
            raise Failure(clean(result.err))
        pongs += 1
        click.echo(describe(result))
        if until_direct and result.endpoint and not result.peer_relay:
            return
    if not pongs:
        msg = "no reply"
        raise Failure(msg)
    if until_direct:
        msg = "direct connection not established"
        raise Failure(msg)


def describe(result: PingResult) -> str:
    """The line about one pong."""
    via = clean(result.endpoint) or "disco"
    if result.peer_relay:
        via = f"peer-relay({clean(result.peer_relay)})"
    elif result.derp_region_id:
        via = f"DERP({clean(result.derp_region_code)})"
    where = f"{clean(result.node_name)} ({clean(result.node_ip)})"
    return f"pong from {where} via {via} in {format_latency(result.latency_seconds)}"
