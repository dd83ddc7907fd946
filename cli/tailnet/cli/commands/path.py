"""``tnet path``: why a peer is reached as it is."""

import click

from tailnet.agent.localapi.schema.basics import decode
from tailnet.agent.localapi.schema.paths import PathCandidate, PathDetails
from tailnet.cli.client import LocalClient
from tailnet.cli.completing import PEER
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.jsontext import indented
from tailnet.cli.peers import find_node, not_connected
from tailnet.cli.text import clean, format_latency
from tailnet.client.questions import quoted

KINDS = {
    "direct": "direct",
    "relay": "through the relay",
    "both": "direct and through the relay: the direct path is not trusted",
    "peer-relay": "through a peer relay",
    "peer-relay-and-relay": "through a peer relay and the relay: the peer relay is not trusted",
    "none": "no way leads there now",
}


@click.command(cls=GoCommand, help="Show how a peer is reached, and why so.")
@click.argument("peer", type=PEER, metavar="PEER")
@flag("json", help="Output JSON.")
@with_client
def command(client: LocalClient, *, peer: str, json: bool) -> None:
    """The path in use, every candidate, and what changed lately."""
    status = client.status()
    if status.backend_state != "Running":
        msg = not_connected(status)
        raise Failure(msg)
    node = find_node(status, peer)
    if node is status.self_ or not node.tailscale_ips:
        msg = f"{clean(peer)} is this machine" if node is status.self_ else "it has no address"
        raise Failure(msg)
    answer = client.request("GET", f"path?ip={quoted(node.tailscale_ips[0])}")
    if json:
        click.echo(indented(answer))
        return
    try:
        about = decode(answer, PathDetails)
    except ValueError as error:
        raise Failure(str(error)) from None
    for line in describe(about):
        click.echo(line)


def describe(about: PathDetails) -> list[str]:
    """The lines for people."""
    lines = [f"{clean(about.name)}: {KINDS.get(about.kind, clean(about.kind))}"]
    if about.addr:
        latency = about.latency_seconds
        took = "" if latency is None else f", {format_latency(latency)}"
        through = ", by the port that our router keeps open" if about.port_mapped else ""
        lines.append(f"  address   {clean(about.addr)}{took}{through}")
    if about.trusted_for is not None:
        lines.append(f"  trusted   for {about.trusted_for:.1f} s without another pong")
    lines.append(f"  relay     {clean(about.relay) or 'none'}")
    lines.append(f"  policy    {clean(about.policy)}")
    lines.append("  candidates:" if about.candidates else "  candidates: none")
    for candidate in about.candidates:
        lines += _candidate(candidate)
    if about.history:
        lines.append(f"  changes: {about.switches}")
        lines += [
            f"    {_age(s.age):>9} ago  {clean(s.path)}: {clean(s.why)}" for s in about.history
        ]
    return lines


def _candidate(about: PathCandidate) -> list[str]:
    mark = "*" if about.used else " "
    lines = [f"  {mark} {clean(about.addr)} ({clean(', '.join(about.sources)) or 'no claim left'})"]
    lines.append(f"      {clean(about.verdict)}")
    if about.pongs:
        times = ", ".join(format_latency(p) for p in about.pongs)
        since = "" if about.last_pong_age is None else f", {_age(about.last_pong_age)} ago"
        lines.append(f"      answered in {times}{since}")
    elif about.last_ping_age is not None:
        lines.append(f"      pinged {_age(about.last_ping_age)} ago")
    if about.wire_mtu:
        lines.append(f"      packets of {about.wire_mtu} bytes pass")
    return lines


def _age(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
