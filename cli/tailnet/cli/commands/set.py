"""``tnet set``: change what is mentioned and nothing else."""

import re
from collections.abc import Iterable

import click

from tailnet.agent.localapi.schema.status import Status
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure, warn
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.peers import find_node
from tailnet.cli.risk import accept_risk as risks
from tailnet.cli.risk import ask
from tailnet.cli.settings import FORWARD, OFFERS, REMINDERS, SETTABLE, options, wishes
from tailnet.cli.text import clean

POLICIES = ("direct-only", "relay-only", "auto")


@click.command(cls=GoCommand, help="Change some settings; the others stay as they are.")
@options(SETTABLE)
@flag(FORWARD, help="Have the kernel forward packets, now and at each start of this machine.")
@risks
@with_client
@click.pass_context
def command(
    ctx: click.Context, /, client: LocalClient, *, accept_risk: frozenset[str], **values: object
) -> None:
    """Without any flag, show help."""
    changes = wishes(SETTABLE, values, ctx.meta["given"])
    if wanted := changes.get("PathPolicy"):
        changes["PathPolicy"] = _policies(client, wanted)
    if name := str(changes.get("ExitNodeID") or ""):
        changes["ExitNodeID"] = _exit_node(client, name)
    if changes.get("ShieldsUp") is True:
        ask(accept_risk, "with shields up no other could begin like it")
    given = ctx.meta["given"]
    if changes:
        client.edit_prefs(changes)
    elif FORWARD not in given:
        click.echo(ctx.get_help())
    if reminder := REMINDERS.get(given.get("netfilter-mode", "")):
        warn(f"Note: {reminder}")
    if OFFERS & given.keys():
        from tailnet.cli.forwarding import advise  # noqa: PLC0415 - most changes are others

        advise(client, given)


def _exit_node(client: LocalClient, name: str) -> str:
    """The stable id of the peer that is meant; ``auto:any`` as it is.

    Raises:
        Failure: there is no such peer, or it does not offer to be an exit node.
    """
    if name.startswith("auto:"):
        return name
    node = find_node(client.status(), name)
    if not node.exit_node_option:
        msg = f"{clean(name)} does not offer to be an exit node; see: tnet exit-node list"
        raise Failure(msg)
    return node.id


def _policies(client: LocalClient, wanted: object) -> list[str]:
    """All policies by the peers' stable ids: those there are, changed by ``wanted``.

    Raises:
        Failure: not PEER=POLICY, there is no such peer, or two policies are for one.
    """
    status = client.status()
    policies = _by_peer(status, _texts(client.prefs().get("PathPolicy")))
    policies |= _by_peer(status, _texts(wanted))
    return [f"{peer}={policy}" for peer, policy in policies.items() if policy != "auto"]


def _by_peer(status: Status, texts: Iterable[object]) -> dict[str, str]:
    policies: dict[str, str] = {}
    for text in texts:
        name, found, policy = str(text).rpartition("=")
        if not found or policy not in POLICIES:
            msg = f"bad path policy {clean(str(text))!r}: it has the form PEER={'|'.join(POLICIES)}"
            raise Failure(msg)
        peer = _stable_id(status, name)
        if policies.setdefault(peer, policy) != policy:
            msg = f"two path policies for {clean(name)}: {policies[peer]} and {policy}"
            raise Failure(msg)
    return policies


def _texts(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, list) else ()


def _stable_id(status: Status, name: str) -> str:
    """As it is if it is one, also of a peer that is gone."""
    peers = (status.peer or {}).values()
    if any(peer.id == name for peer in peers) or re.fullmatch(r"n\w+CNTRL|n\d+", name):
        return name
    node = find_node(status, name)
    if node is status.self_:
        msg = f"{clean(name)} is this machine"
        raise Failure(msg)
    return node.id
