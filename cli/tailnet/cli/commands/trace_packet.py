"""``tnet trace``: a packet's way through the plan in force, and what stops it."""

import click

from tailnet.agent.localapi.schema.tracing import TraceAnswer
from tailnet.cli.client import LocalClient
from tailnet.cli.completing import PEER
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.jsontext import indented
from tailnet.cli.text import clean
from tailnet.cli.tracing import ask, describe, verdict


@click.command(
    cls=GoCommand,
    help="Show how a packet gets from SRC (this machine if left out) to DST, or what stops it.",
)
@click.argument("ends", type=PEER, metavar="[SRC] DST[:PORT]", nargs=-1, required=True)
@click.option("--proto", type=click.Choice(["tcp", "udp", "icmp"]), help="Protocol (default tcp).")
@flag("live", help="Also try: ping every part of the way, and connect to the port.")
@flag("json", help="Output JSON.")
@with_client
def command(
    client: LocalClient, *, ends: tuple[str, ...], proto: str | None, live: bool, json: bool
) -> None:
    """Ask once, print; exit code 1 if something stops it."""
    if len(ends) > 2:
        msg = "too many ends; write: tnet trace [SRC] DST[:PORT]"
        raise click.UsageError(msg)
    src, target = ends if len(ends) == 2 else ("", ends[0])
    dst, port = split(target)
    if live and (src not in ("", "self") or json):
        msg = "--live tries from this machine, and tells people: no other source, no --json"
        raise click.UsageError(msg)
    found = ask(client, src=src, dst=dst, proto=proto or "tcp", port=port)
    if json:
        click.echo(indented(found))
    else:
        click.echo(f"{clean(found.src)} → {clean(found.dst)}, {clean(found.flow)}")
        for line in describe(found):
            click.echo(line)
        click.echo(verdict(found))
    works = _live(client, found, proto or "tcp", port) if live else True
    if found.verdict == "stop" or not works:
        raise SystemExit(1)


def split(target: str) -> tuple[str, int]:
    """``HOST``, ``HOST:PORT``, an IPv6 address bare or in brackets.

    Raises:
        Failure: the port is none.
    """
    host, colon, port = target.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        return target.strip("[]"), 0
    if not port.isascii() or not port.isdecimal() or not 0 < int(port) <= 65_535:
        msg = f"a port is a number from 1 to 65535, not {clean(port)}"
        raise Failure(msg)
    return host.strip("[]"), int(port)


def _live(client: LocalClient, found: TraceAnswer, proto: str, port: int) -> bool:
    """Say how each probe went; whether the last one worked, which is what was asked about."""
    from tailnet.cli.probing import probe  # noqa: PLC0415 - nothing is sent otherwise

    works = True
    for tried in probe(client, found, proto, port):
        click.echo(f"Tried: {tried.about:<6}  {tried.says}.")
        works = tried.works
    return works
