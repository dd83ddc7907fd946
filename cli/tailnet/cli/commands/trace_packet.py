"""``tnet trace``: a packet's way through the plan in force, and what stops it."""

import socket

import click

from tailnet.agent import clock
from tailnet.agent.localapi.schema.tracing import TraceAnswer
from tailnet.cli.client import LocalClient
from tailnet.cli.completing import PEER
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.jsontext import indented
from tailnet.cli.text import clean, format_latency
from tailnet.cli.tracing import ask, describe, verdict

PATIENCE = 5.0  # seconds for a connection that is tried


@click.command(
    cls=GoCommand,
    help="Show how a packet gets from SRC (this machine if left out) to DST, or what stops it.",
)
@click.argument("ends", type=PEER, metavar="[SRC] DST[:PORT]", nargs=-1, required=True)
@click.option("--proto", type=click.Choice(["tcp", "udp", "icmp"]), help="Protocol (default tcp).")
@flag("live", help="Also try: connect by TCP, from this process.")
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
    if live and (src not in ("", "self") or (proto or "tcp") != "tcp" or not port):
        msg = "--live connects by TCP from this machine: give a port and no other source"
        raise click.UsageError(msg)
    found = ask(client, src=src, dst=dst, proto=proto or "tcp", port=port)
    if json:
        click.echo(indented(found))
    else:
        click.echo(f"{clean(found.src)} → {clean(found.dst)}, {clean(found.flow)}")
        for line in describe(found):
            click.echo(line)
        click.echo(verdict(found))
    connected = _try(found, port) if live else True
    if found.verdict == "stop" or not connected:
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


def _try(found: TraceAnswer, port: int) -> bool:
    """Connect as any program would; say how it went."""
    began = clock.now()
    try:
        with socket.create_connection((found.dst, port), PATIENCE):
            took = format_latency(clock.now() - began)
            click.echo(f"Tried: connected to {found.dst} port {port} in {took}.")
            return True
    except ConnectionRefusedError:
        click.echo(f"Tried: {found.dst} refused port {port}; the way is there, nobody listens.")
    except TimeoutError:
        click.echo(f"Tried: no answer from {found.dst} port {port} within {PATIENCE:.0f} s.")
    except OSError as error:
        click.echo(f"Tried: {error.strerror or error}.")
    return False
