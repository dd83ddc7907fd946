"""``tnet ping``.

Source: tailscale cmd/tailscale/cli/ping.go.
"""

import time
from dataclasses import dataclass

import click

from tailnet.agent.localapi.schema.basics import decode
from tailnet.agent.localapi.schema.paths import PingResult
from tailnet.cli.client import LocalClient
from tailnet.cli.completing import PEER
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import DURATION, GoCommand, flag
from tailnet.cli.peers import find_node, not_connected
from tailnet.cli.text import clean, format_latency
from tailnet.client.errors import TimedOut
from tailnet.client.questions import quoted

INTERVAL = 1.0  # seconds between pings
KINDS = ("disco", "TSMP", "ICMP", "peerapi")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the flags say.

    Attributes:
        kind: one of :data:`KINDS`.
        size: bytes of the IP packet; 0 is the smallest.
        count: pings; 0 is endless.
        timeout: seconds for each; 0 is endless.
        until_direct: a direct pong is enough, and none is a failure.
    """

    kind: str
    size: int
    count: int
    timeout: float
    until_direct: bool


@click.command(cls=GoCommand, help="Ping a peer, and see how it is reached.")
@click.argument("host", type=PEER, metavar="HOST")
@flag("verbose", help="Say which address is pinged.")
@flag("until-direct", default=True, help="Stop once a direct path is there.")
@click.option(
    "-c", "count", type=click.IntRange(0), default=10, metavar="N", help="Pings; 0 is endless."
)
@click.option(
    "--timeout", type=DURATION, default=5.0, metavar="DURATION", help="Patience for each ping."
)
@click.option(
    "--size",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="BYTES",
    help="Size of the ping; only where none of the following is given.",
)
@flag("tsmp", help="Ask the peer's daemon through WireGuard; one answer is enough.")
@flag("icmp", help="Ask the peer's system by ICMP through WireGuard; one answer is enough.")
@flag("peerapi", help="Ask the HTTP server that the peer's daemon has for peers.")
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
    tsmp: bool,
    icmp: bool,
    peerapi: bool,
) -> None:
    """Until direct, or enough."""
    kinds = [kind for kind, given in zip(KINDS[1:], (tsmp, icmp, peerapi), strict=True) if given]
    if len(kinds) > 1:
        msg = "choose one of --tsmp, --icmp and --peerapi"
        raise Failure(msg)
    if kinds and size:
        msg = f"--size does not go with --{kinds[0].lower()}"
        raise Failure(msg)
    wish = Wish(kinds[0] if kinds else KINDS[0], size, count, timeout, until_direct)
    status = client.status()
    if status.backend_state != "Running":
        msg = not_connected(status)
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
    _ping(client, ip, wish)


def _ping(client: LocalClient, ip: str, wish: Wish) -> None:
    pongs = sent = 0
    while not wish.count or sent < wish.count:
        if sent:
            time.sleep(INTERVAL)
        sent += 1
        result = _once(client, ip, wish)
        if result is None:
            click.echo(f'ping "{clean(ip)}" timed out')
            continue
        if result.err:
            if result.is_local_ip is True:
                click.echo(clean(result.err))
                return
            raise Failure(clean(result.err))
        pongs += 1
        click.echo(describe(result, wish.kind))
        if wish.kind != "disco" or (
            wish.until_direct and result.endpoint and not result.peer_relay
        ):
            return
    if not pongs:
        msg = "no reply"
        raise Failure(msg)
    if wish.until_direct:
        msg = "direct connection not established"
        raise Failure(msg)


def _once(client: LocalClient, ip: str, wish: Wish) -> PingResult | None:
    """One ping; ``None`` without answer."""
    name = f"ping?ip={quoted(ip)}&type={wish.kind}&size={wish.size}"
    try:
        result = decode(client.request("POST", name, timeout=wish.timeout or None), PingResult)
    except TimedOut:
        return None
    except ValueError as error:
        raise Failure(str(error)) from None
    return None if result.err.startswith("timeout") else result


def describe(result: PingResult, kind: str) -> str:
    """The line about one answer."""
    latency, name = format_latency(result.latency_seconds), clean(result.node_name)
    if kind == "peerapi":
        url = clean(result.peer_api_url or "")
        return f"hit peerapi of {clean(result.node_ip)} ({name}) at {url} in {latency}"
    via = clean(result.endpoint) or kind
    if result.peer_relay:
        via = f"peer-relay({clean(result.peer_relay)})"
    elif result.derp_region_id:
        via = f"DERP({clean(result.derp_region_code)})"
    port = f", {result.peer_api_port}" if result.peer_api_port else ""
    return f"pong from {name} ({clean(result.node_ip)}{port}) via {via} in {latency}"
