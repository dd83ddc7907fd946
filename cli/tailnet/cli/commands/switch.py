"""``tnet switch``: which account is in use.

Source: tailscale cmd/tailscale/cli/switch.go.
"""

import time

import click

from tailnet.agent.localapi.schema.identity import LoginProfile
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.jsontext import indented
from tailnet.cli.login import Patience
from tailnet.cli.profiles import choose, list_profiles, tailnet
from tailnet.cli.terminal import fitted
from tailnet.cli.text import clean
from tailnet.cli.working import Working

PATIENCE = 30.0  # seconds for the other account to be connected
SETTLED = ("Running", "NeedsLogin", "NeedsMachineAuth", "Stopped")
LOOK_AGAIN = 0.1  # seconds

HELP = """\
Use another account.

NAME is the ID, tailnet or name of an account, as in the list. "tnet switch remove NAME" forgets an
account and its keys.
"""


@click.command(cls=GoCommand, help=HELP)
@flag("list", help="List the accounts; the one in use has an asterisk.")
@flag("json", help="List them as JSON.")
@click.argument("names", nargs=-1, metavar="[remove] NAME")
@with_client
def command(client: LocalClient, *, list: bool, json: bool, names: tuple[str, ...]) -> None:  # noqa: A002
    """One of three things."""
    if ((list or json) and names) or (not names and not (list or json)) or len(names) > 2:
        msg = "usage: tnet switch NAME, tnet switch --list, or tnet switch remove NAME"
        raise click.UsageError(msg)
    profiles = list_profiles(client)
    chosen = client.get("profiles/current", LoginProfile).id
    if not names:
        show(profiles, chosen, as_json=json)
    elif len(names) == 2:
        remove(client, profiles, names)
    else:
        switch(client, choose(profiles, names[0]), chosen)


def show(profiles: tuple[LoginProfile, ...], chosen: str, *, as_json: bool) -> None:
    """The list, for people or programs."""
    if as_json:
        tree = [
            {
                "id": profile.id,
                "nickname": profile.name,
                "tailnet": tailnet(profile),
                "account": profile.user_profile.login_name,
                "selected": profile.id == chosen,
            }
            for profile in profiles
        ]
        click.echo(indented(tree))
        return
    rows = [
        (
            clean(profile.id),
            tailnet(profile) or "-",
            clean(profile.name) + ("*" if profile.id == chosen else ""),
        )
        for profile in profiles
    ]
    for line in fitted([("ID", "Tailnet", "Account"), *rows]):
        click.echo(line)


def remove(client: LocalClient, profiles: tuple[LoginProfile, ...], words: tuple[str, ...]) -> None:
    """Forget an account."""
    if words[0] != "remove":
        msg = f"unknown command: switch {words[0]}; did you mean: tnet switch remove {words[1]}?"
        raise click.UsageError(msg)
    client.request("DELETE", f"profiles/{choose(profiles, words[1]).id}")


def switch(client: LocalClient, to: LoginProfile, chosen: str) -> None:
    """Use it, and wait until it is clear how that went."""
    name = clean(to.name)
    if to.id == chosen:
        click.echo(f"Already on account {name!r}.")
        return
    click.echo(f"Switching to account {name!r}")
    with Working("waiting for a connection"):
        client.request("POST", f"profiles/{to.id}")
        state = settle(client)
    if state == "Running":
        click.echo("Success.")
    elif state == "NeedsLogin":
        click.echo("Logged out.\nTo log in, run:\n  tnet up")
    elif state == "NeedsMachineAuth":
        msg = "this machine is not approved yet in that tailnet"
        raise Failure(msg)
    else:
        msg = "that account is disconnected; connect with: tnet up"
        raise Failure(msg)


def settle(client: LocalClient) -> str:
    """The state that it is in once that is clear.

    Raises:
        TimedOut: it is not, for long.
    """
    patience = Patience(PATIENCE)
    while True:
        state = client.status(peers=False).backend_state
        if state in SETTLED:
            return state
        patience.left()
        time.sleep(LOOK_AGAIN)
