"""``tnet debug``: the daemon's own answers, as they are.

Source: tailscale cmd/tailscale/cli/debug.go.
"""

from collections.abc import Iterator

import click
from msgspec import DecodeError, Struct, json

from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import DURATION, GoCommand, flag
from tailnet.cli.jsontext import indented
from tailnet.cli.text import clean, clean_lines
from tailnet.client.questions import joined

ANSWERS = {
    "prefs": ("GET", "prefs", "Print all settings, as the daemon keeps them."),
    "netmap": ("POST", "debug?action=current-netmap", "Print the network map, without keys."),
    "derp-map": ("GET", "derpmap", "Print the relays of the network map."),
    "packet-filter": ("GET", "debug-packet-filter-matches", "Print the filter as packets meet it."),
    "statedir": ("POST", "debug?action=statedir", "Print where the daemon keeps its state."),
    "control-knobs": (
        "POST",
        "debug?action=control-knobs",
        "Print what the server has us do.",
    ),
    "hostinfo": ("POST", "debug?action=hostinfo", "Print what control is told of this host."),
    "daemon-goroutines": ("GET", "goroutines", "Print the stacks of all tasks and threads."),
    "metrics": ("GET", "metrics", "Print everything that is counted, of the process too."),
}
"""Commands that show one answer: method, route, help."""


class LogLine(Struct):
    """Of ``logtap``."""

    client_time: str = ""
    v: int = 0
    text: str = ""


def add_to(group: click.Group) -> None:
    """Below ``tnet debug``."""
    for name, (method, route, help_) in ANSWERS.items():
        group.add_command(_answer(name, method, route, help_))
    for command in (daemon_logs, component_logs, localapi):
        group.add_command(command)


def _answer(name: str, method: str, route: str, help_: str) -> click.Command:
    @click.command(name, cls=GoCommand, help=help_)
    @flag("pretty", default=True, hidden=True, help="Upstream's, of prefs; it always is.")
    @with_client
    def command(client: LocalClient, *, pretty: bool) -> None:
        show(client.request(method, route))

    return command


def show(answer: bytes) -> None:
    """JSON in order, any other text as it is, but for what a terminal would act on."""
    try:
        click.echo(indented(answer))
    except (DecodeError, UnicodeDecodeError):
        click.echo(clean_lines(answer.decode(errors="replace")), nl=not answer.endswith(b"\n"))


@click.command("daemon-logs", cls=GoCommand, help="Print the daemon's log as it grows.")
@click.option("--verbose", type=click.IntRange(0), default=1, metavar="N", help="0: less of it.")
@flag("time", help="With the time of each line.")
@with_client
def daemon_logs(client: LocalClient, *, verbose: int, time: bool) -> None:
    """From now on, until Ctrl-C."""
    for line in lines_of(client.stream("GET", "logtap")):
        try:
            entry = json.decode(line, type=LogLine)
        except DecodeError:
            entry = LogLine(text=line.decode(errors="replace"))
        if entry.v <= verbose:
            begun = f"{clean(entry.client_time)} " if time else ""
            click.echo(f"{begun}{clean(entry.text.rstrip())}")


def lines_of(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Whole ones, without their ends."""
    buffer = b""
    for piece in pieces:
        *whole, buffer = (buffer + piece).split(b"\n")
        yield from (line for line in whole if line)


@click.command("component-logs", cls=GoCommand, help="Log one component in detail for a while.")
@click.argument("component")
@click.option(
    "--for", "seconds", type=DURATION, default=3600.0, metavar="DURATION", help="How long; 0 ends."
)
@with_client
def component_logs(client: LocalClient, *, component: str, seconds: float) -> None:
    """Its name is the one in the log."""
    query = joined({"component": component, "secs": min(int(seconds), 86_400)})
    answer = client.request("POST", f"component-debug-logging?{query}")
    if refused := json.decode(answer, type=dict[str, str]).get("Error"):
        raise Failure(refused)


@click.command("localapi", cls=GoCommand, help="Ask the LocalAPI anything.")
@click.argument("method", type=click.Choice(["GET", "POST", "PUT", "PATCH", "DELETE"]))
@click.argument("route", metavar="PATH")
@click.argument("body", default="")
@with_client
def localapi(client: LocalClient, *, method: str, route: str, body: str) -> None:
    """PATH is with or without ``/localapi/v0/``; BODY is JSON."""
    name = route.removeprefix("/").removeprefix("localapi/v0/")
    if not name or not name.isascii() or not name.isprintable() or " " in name:
        msg = "a path is like status, or whois?addr=100.64.0.2; see: docs/openapi.json"
        raise Failure(msg)
    try:
        tree = json.decode(body, type=dict[str, object]) if body else None
    except DecodeError as error:
        msg = f"the body is no JSON object: {error}"
        raise Failure(msg) from None
    show(client.request(method, name, tree))
