"""``tnet debug``: looks inside tailnetd; what it prints may change from version to version.

Source: tailscale cmd/tailscale/cli/debug.go.
"""

import contextlib
import os
import sys
import time
from contextlib import nullcontext
from itertools import chain
from typing import BinaryIO

import click
import msgspec
from msgspec import json

from tailnet.agent.localapi.schema.basics import decode
from tailnet.agent.localapi.schema.paths import PeerRelayClient, PeerRelaySessions
from tailnet.cli.client import LocalClient
from tailnet.cli.commands import (
    debug_acts,
    debug_here,
    debug_portmap,
    debug_profile,
    debug_raw,
    debug_tries,
    debug_watch,
)
from tailnet.cli.commands.debug_acts import DebugGroup
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.jsontext import indented
from tailnet.cli.terminal import fitted
from tailnet.cli.text import clean

WATCH_EVERY = 0.5  # seconds


class Interface(msgspec.Struct, rename="pascal"):
    """A device."""

    up: bool
    addrs: list[str]


class Event(msgspec.Struct, rename="pascal"):
    """A change of the network."""

    number: int
    at: str
    change: str
    reason: str
    slept: float


class Network(
    msgspec.Struct,
    rename={
        "default_v4": "DefaultV4",
        "default_v6": "DefaultV6",
        "interfaces": "Interfaces",
        "events": "Events",
    },
):
    """The host's."""

    default_v4: str
    default_v6: str
    interfaces: dict[str, Interface]
    events: list[Event]


@click.group(
    cls=DebugGroup,
    help="Look inside tailnetd, for people who debug it.",
    invoke_without_command=True,
    no_args_is_help=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.option(
    "--cpu-profile", default="", metavar="FILE", help="Save where time goes; - is stdout."
)
@click.option("--mem-profile", default="", metavar="FILE", help="Save what memory is used for.")
@click.option(
    "--profile-seconds", type=click.IntRange(1, 50), default=15, metavar="N", help="How long (15)."
)
@click.pass_context
def command(
    ctx: click.Context, *, cpu_profile: str, mem_profile: str, profile_seconds: int
) -> None:
    """Profiles by flags, as upstream has it; everything else is below."""
    if ctx.invoked_subcommand is None and not (cpu_profile or mem_profile):
        msg = "say what: a command or a profile; see: tnet debug --help"
        raise click.UsageError(msg, ctx)
    if cpu_profile or mem_profile:
        debug_profile.save(ctx.obj, cpu_profile, mem_profile, profile_seconds)


@command.command(
    "plan",
    cls=GoCommand,
    help="Print what follows from settings and network map: peers, routes, filter.",
)
@with_client
def plan(client: LocalClient) -> None:
    """The same plan is the same text, so that two can be compared."""
    tree = client.request("POST", "debug?action=plan")
    click.echo(indented(tree))


@command.command(
    "drops", cls=GoCommand, help="Show what was dropped since the daemon's start, and why."
)
@with_client
def drops(client: LocalClient) -> None:
    """A line for each layer and reason; silent when nothing was."""
    layers = json.decode(
        client.request("POST", "debug?action=drops"), type=dict[str, dict[str, int]]
    )
    rows = [
        (layer, clean(reason), str(count))
        for layer, counts in layers.items()
        for reason, count in sorted(counts.items())
    ]
    for line in fitted(rows):
        click.echo(line)


@command.command(
    "peer-relay-servers",
    cls=GoCommand,
    help="List the peers that may be asked to relay to others.",
)
@with_client
def peer_relay_servers(client: LocalClient) -> None:
    """Their addresses, one a line."""
    found = json.decode(client.request("POST", "debug?action=peer-relay-servers"), type=list[str])
    for address in found:
        click.echo(clean(address))


@command.command(
    "peer-relay-sessions",
    cls=GoCommand,
    help="Show the peers for which this machine relays.",
)
@with_client
def peer_relay_sessions(client: LocalClient) -> None:
    """A line for each session."""
    about = decode(client.request("GET", "debug-peer-relay-sessions"), PeerRelaySessions)
    if about.udp_port is None:
        click.echo("this machine is no peer relay; to make it one: tnet set --relay-server-port=0")
        return
    click.echo(f"UDP port {about.udp_port}, sessions: {len(about.sessions)}")
    rows = [
        (f"  {session.vni}", *_end(session.client1), "<->", *_end(session.client2))
        for session in about.sessions
    ]
    for line in fitted(rows):
        click.echo(line)


def _end(about: PeerRelayClient) -> tuple[str, str, str]:
    where = clean(about.endpoint) or "not bound"
    return where, clean(about.short_disco), f"tx {about.packets_tx} ({about.bytes_tx} bytes)"


@command.command("netmon", cls=GoCommand, help="Show this host's network, and what became of it.")
@click.option("--watch", is_flag=True, help="Go on, a line for each change, until Ctrl-C.")
@with_client
def netmon(client: LocalClient, watch: bool) -> None:
    """Devices without the tunnel's, then the latest changes."""
    seen = 0
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            about = json.decode(client.request("POST", "debug?action=netmon"), type=Network)
            if not seen:
                _show_network(about)
            for event in about.events:
                if event.number > seen:
                    slept = f" after {event.slept:.0f} s of sleep" if event.slept else ""
                    click.echo(f"{event.at}  {event.change}: {clean(event.reason)}{slept}")
                    seen = event.number
            if not watch:
                return
            time.sleep(WATCH_EVERY)


def _show_network(about: Network) -> None:
    rows = []
    for name, one in about.interfaces.items():
        out = [v for v, d in (("IPv4", about.default_v4), ("IPv6", about.default_v6)) if d == name]
        way = f"way out for {' and '.join(out)}" if out else ""
        rows.append((clean(name), "up" if one.up else "down", ", ".join(one.addrs), way))
    for line in fitted(rows):
        click.echo(line)


@command.command("reload-config", cls=GoCommand, help="Read the configuration file again.")
@with_client
def reload_config(client: LocalClient) -> None:
    """Says so if there is none."""
    answer = json.decode(client.request("POST", "reload-config"), type=dict[str, object])
    if error := answer.get("Err"):
        raise Failure(str(error))
    if not answer.get("Reloaded"):
        msg = "tailnetd runs without a configuration file"
        raise Failure(msg)
    click.echo("configuration reloaded")


@command.command(
    "capture",
    cls=GoCommand,
    help="Write the tailnet's packets to a file, in the clear, until Ctrl-C.",
)
@click.option("-o", "output", metavar="FILE", help="Where to; - is standard output.")
@with_client
def capture(client: LocalClient, output: str | None) -> None:
    """pcapng; Wireshark and tcpdump read it."""
    if output is None:
        msg = "say where to: -o FILE, or a pipe, as in: tnet debug capture -o - | tcpdump -r -"
        raise Failure(msg)
    pieces = client.stream("POST", "debug-capture")
    first = next(pieces, b"")  # a refusal comes before the file is touched
    try:
        with _open(output) as file:
            if output != "-":
                click.echo(f"writing packets to {output}; end with Ctrl-C", err=True)
            for piece in chain((first,), pieces):
                file.write(piece)
                file.flush()
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
    except OSError as error:
        msg = f"cannot write {output}: {error.strerror or error}"
        raise Failure(msg) from None


def _open(output: str) -> "nullcontext[BinaryIO] | BinaryIO":
    """The file, for its owner alone: what is in it was said in the clear."""
    if output == "-":
        return nullcontext(sys.stdout.buffer)
    return open(output, "wb", opener=lambda path, flags: os.open(path, flags, 0o600))


@command.command("via", cls=GoCommand, help="Translate between an IPv4 network of a site and IPv6.")
@click.argument("words", nargs=-1, metavar="SITE CIDR | PREFIX")
def via(words: tuple[str, ...]) -> None:
    """Asks nobody."""
    from ipaddress import IPv4Network, IPv6Network  # noqa: PLC0415 - seldom needed

    from tailnet.agent import addr  # noqa: PLC0415

    try:
        if len(words) == 1:
            found = addr.unmap_via(IPv6Network(words[0]))
            if found is not None:
                click.echo(f"site {found[0]} (0x{found[0]:x}), {found[1]}")
                return
        else:
            number, text = words
            site = int(number, 0)
            if 0 <= site < 1 << 32:
                click.echo(addr.via(site, IPv4Network(text)))
                return
    except ValueError:
        pass
    msg = "give a site and an IPv4 network, as in 7 10.1.0.0/16, or an IPv6 prefix of 4via6"
    raise Failure(msg)


debug_raw.add_to(command)
debug_acts.add_to(command)
for each in (
    debug_watch.watch_ipn,
    debug_portmap.portmap,
    *debug_here.COMMANDS,
    *debug_tries.COMMANDS,
):
    command.add_command(each)
