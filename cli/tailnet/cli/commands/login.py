"""``tnet login``: join a tailnet, in a browser or with a key.

Source: tailscale cmd/tailscale/cli/login.go.
"""

from collections.abc import Mapping
from dataclasses import replace

import click

from tailnet.cli.authkey import KeyInputs, key_options, resolve
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.login import Patience, UpPlan, Waiting, check_prefs, connect, waiting_options
from tailnet.cli.profiles import list_profiles
from tailnet.cli.settings import NICKNAME, SETTINGS, Prefs, options, wishes


@click.command(
    cls=GoCommand, help="Log in to a tailnet; an account that is there stays, see: tnet switch."
)
@key_options
@options((*SETTINGS, NICKNAME))
@waiting_options
@with_client
@click.pass_context
def command(
    ctx: click.Context,
    /,
    client: LocalClient,
    *,
    keys: KeyInputs,
    waiting: Waiting,
    **values: object,
) -> None:
    """Begin a new account, unless there is none yet; then as ``up``."""
    given: Mapping[str, str] = ctx.meta["given"]
    patience = Patience(waiting.timeout)
    status = client.status(peers=False)
    current = client.prefs()
    wanted = wishes((*SETTINGS, NICKNAME), values, given)
    refuse_taken(client, str(wanted.get("ProfileName", "")))
    check_prefs(client, current, wanted)
    key = resolve(keys, {**current, **wanted})
    if status.have_node_key is True and status.backend_state != "NeedsLogin":
        client.request("PUT", "profiles/")
        current = client.prefs()
    plan = plan_login(current, wanted, key)
    connect(client, status, replace(plan, qr=waiting.drawn), patience, json=False)


def refuse_taken(client: LocalClient, nickname: str) -> None:
    """Two accounts of one name could not be told apart.

    Raises:
        Failure: another account has it.
    """
    if nickname and nickname in {profile.name for profile in list_profiles(client)}:
        msg = f"the nickname {nickname!r} is in use; see: tnet switch --list"
        raise Failure(msg)


def plan_login(current: Prefs, wanted: Prefs, auth_key: str) -> UpPlan:
    """What is set stays; the rest is as for a new machine."""
    prefs = {s.pref: s.wish(current) for s in SETTINGS} | dict(wanted)
    return UpPlan(
        edit={**prefs, "WantRunning": True, "LoggedOut": False},
        start=True,
        auth_key=auth_key,
        interactive=not auth_key,
        server=str(prefs["ControlURL"]),
    )
