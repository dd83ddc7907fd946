"""``tnet routes``: what the machines of the tailnet lead to, and which of it is used."""

from collections.abc import Iterator, Sequence

import click
from msgspec import ValidationError
from msgspec import json as msgjson

from tailnet.agent.localapi.schema.network import RouteEntry
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import BOOL_OR_LIST, GoCommand, flag
from tailnet.cli.jsontext import indented
from tailnet.cli.terminal import fitted
from tailnet.cli.text import clean
from tailnet.client.questions import quoted

NONE = "no routes are offered"
SAME = "Nothing would change."


@click.command(cls=GoCommand, help="List routes, and what becomes of them.")
@flag("dry-run", help="Show what another --accept-routes would change, and change nothing.")
@click.option(
    "--accept-routes",
    type=BOOL_OR_LIST,
    default=True,
    metavar="true|false|ITEMS",
    help="With --dry-run: the setting to try.",
)
@flag("json", help="Output JSON.")
@with_client
@click.pass_context
def command(
    ctx: click.Context,
    /,
    client: LocalClient,
    *,
    dry_run: bool,
    accept_routes: bool | list[str],
    json: bool,
) -> None:
    """A table, or what would change."""
    if "accept-routes" in ctx.meta["given"] and not dry_run:
        msg = "--accept-routes needs --dry-run here; to change it: tnet set --accept-routes=…"
        raise Failure(msg)
    path = "routes"
    if dry_run:
        path += f"?accept={quoted(_setting(accept_routes))}"
    answer = client.request("GET", path)
    if json:
        click.echo(indented(answer))
        return
    entries = decode(answer)
    lines = changes(decode(client.request("GET", "routes")), entries) if dry_run else rows(entries)
    for line in lines:
        click.echo(line)


def decode(answer: bytes) -> tuple[RouteEntry, ...]:
    """What the daemon says.

    Raises:
        Failure: something else.
    """
    try:
        return msgjson.decode(answer, type=tuple[RouteEntry, ...])
    except ValidationError as error:
        msg = f"tailnetd gave an answer that makes no sense: {error}"
        raise Failure(msg) from None


def _setting(value: bool | list[str]) -> str:
    return ",".join(value) if isinstance(value, list) else str(value).lower()


def rows(entries: Sequence[RouteEntry]) -> list[str]:
    """For people."""
    if not entries:
        return [NONE]
    lines = [("ROUTE", "VIA", "STATE")]
    lines += [cells(entry) for entry in entries]
    return fitted(lines)


def cells(entry: RouteEntry) -> tuple[str, str, str]:
    """Where to, through whom, and what became of it."""
    return clean(entry.prefix), _via(entry), _state(entry)


def _via(entry: RouteEntry) -> str:
    return clean(entry.peer) if entry.peer_id else "this machine"


def _state(entry: RouteEntry) -> str:
    parts = f": {', '.join(map(clean, entry.parts))}" if entry.parts else ""
    why = f" ({clean(entry.why)})" if entry.why else ""
    return clean(entry.verdict) + parts + why


def changes(now: Sequence[RouteEntry], then: Sequence[RouteEntry]) -> list[str]:
    """What one more and one fewer route would be."""
    lines = list(_changes(now, then))
    return lines or [SAME]


def _changes(now: Sequence[RouteEntry], then: Sequence[RouteEntry]) -> Iterator[str]:
    had, will = _used(now), _used(then)
    for key in sorted({*had, *will} - (had.keys() & will.keys())):
        prefix, _ = key
        entry = will.get(key) or had[key]
        why = f" ({clean(entry.why)})" if key in will and entry.why else ""
        yield f"{'+' if key in will else '-'} {clean(prefix)} via {_via(entry)}{why}"


def _used(entries: Sequence[RouteEntry]) -> dict[tuple[str, str], RouteEntry]:
    """By prefix and peer, parts one by one."""
    return {
        (prefix, entry.peer_id): entry
        for entry in entries
        if entry.used
        for prefix in entry.parts or (entry.prefix,)
    }
