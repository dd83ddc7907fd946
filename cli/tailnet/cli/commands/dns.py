"""``tnet dns``: how this host resolves names, and what one name is.

Source: tailscale cmd/tailscale/cli/dns.go.
"""

from ipaddress import ip_address

import click
from msgspec import json as msgjson

from tailnet.agent.localapi.schema.names import DNSLocalRecord, DNSOSConfig, DNSQueryAnswer
from tailnet.cli import names
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.jsontext import indented
from tailnet.cli.terminal import fitted
from tailnet.cli.text import clean
from tailnet.client import questions
from tailnet.client.errors import Refused
from tailnet.client.questions import quoted

NO_MAP, UNREADABLE = 503, 500


@click.group(help="Show how names are resolved, what one name is, and names of this host alone.")
def command() -> None:
    """Only a name for what is below."""


@command.command("status", cls=GoCommand, help="Show how this host resolves names.")
@flag("all", help="Also what is empty, fallback resolvers, records and certificate domains.")
@flag("json", help="Output JSON.")
@with_client
def status(client: LocalClient, *, all: bool, json: bool) -> None:  # noqa: A002 - a flag's name
    """Settings, tailnet and host in one view."""
    tree, host = gather(client)
    if json:
        click.echo(indented(tree))
        return
    for line in names.status_lines(tree, host, everything=all):
        click.echo(line)


def gather(client: LocalClient) -> tuple[names.Tree, DNSOSConfig | str]:
    """What the daemon knows of it, and how the host was before, or why that is not known."""
    accepted = client.prefs().get("CorpDNS") is True
    try:
        config = msgjson.decode(client.request("GET", "dns-config"), type=dict[str, object])
    except Refused as error:
        if error.status != NO_MAP:
            raise
        config = {}
    host: DNSOSConfig | str
    try:
        host = client.get("dns-osconfig", DNSOSConfig)
    except Refused as error:
        if error.status != UNREADABLE:
            raise
        host = str(error)
    return names.status_tree(client.status(peers=False), accepted, config, host), host


@command.command("query", cls=GoCommand, help="Ask the daemon's resolver, and see who answered.")
@click.argument("name")
@click.argument("type", required=False, default="")
@flag("json", help="Output JSON.")
@with_client
def query(client: LocalClient, *, name: str, type: str, json: bool) -> None:  # noqa: A002
    """As a program of this host would ask; an address means its name."""
    asked, kind = name, type.upper()
    try:
        asked, kind = (ip_address(name).reverse_pointer, "PTR") if not kind else (name, kind)
    except ValueError:
        kind = "A"
    from tailnet.cli import records  # noqa: PLC0415 - dnslib, which the other commands do not need

    said = client.get(f"dns-query?name={quoted(asked)}&type={quoted(kind)}", DNSQueryAnswer)
    record = records.parse_answer(said.data)
    if json:
        tree = records.query_tree(asked, kind, said, record)
        click.echo(indented(tree))
    if record is None:
        who = ", ".join(clean(resolver.addr) for resolver in said.resolvers)
        msg = f"no answer from {who} ({clean(said.why)})"
        raise Failure(msg)
    if not json:
        for line in records.query_lines(said, record):
            click.echo(line)


@command.group("record", help="Names of this host alone, over all others; kept with the account.")
def record() -> None:
    """Only a name for what is below."""


@record.command("add", cls=GoCommand, help="Give NAME these addresses too; *.NAME: all below it.")
@click.argument("name")
@click.argument("addr", nargs=-1, required=True)
@with_client
def add(client: LocalClient, *, name: str, addr: tuple[str, ...]) -> None:
    """At once, for every program that asks the daemon."""
    client.ask(questions.add_dns_record(name, addr))


@record.command("remove", cls=GoCommand, help="Take these addresses from NAME, or all of them.")
@click.argument("name")
@click.argument("addr", nargs=-1)
@with_client
def remove(client: LocalClient, *, name: str, addr: tuple[str, ...]) -> None:
    """What is not there is an error."""
    client.ask(questions.remove_dns_record(name, addr))


@record.command("list", cls=GoCommand, help="Show the names of this host alone.")
@flag("json", help="Output JSON.")
@with_client
def list_(client: LocalClient, *, json: bool) -> None:
    """One a line, with its addresses."""
    known: list[DNSLocalRecord] = client.ask(questions.dns_records())
    if json:
        click.echo(indented(known))
        return
    for line in fitted((clean(each.name), " ".join(map(clean, each.addresses))) for each in known):
        click.echo(line)
