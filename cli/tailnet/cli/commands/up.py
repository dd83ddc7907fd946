"""``tnet up``: its flags, and which of three ways leads to "connected".

Source: tailscale cmd/tailscale/cli/up.go.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import click

from tailnet.agent.localapi.schema.status import Status
from tailnet.cli.authkey import KeyInputs, key_options, resolve
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure, warn
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.login import Patience, UpPlan, Waiting, check_prefs, connect, waiting_options
from tailnet.cli.risk import accept_risk as risks
from tailnet.cli.risk import ask
from tailnet.cli.settings import FORWARD, OFFERS, REMINDERS, SETTINGS, Prefs, options, wishes
from tailnet.cli.text import clean

GUARD = """\
Error: changing settings via 'tnet up' requires mentioning all
non-default flags. To proceed, either re-run your command with --reset or
use the command below to explicitly mention the current value of
all non-default settings:

\ttnet up {arguments}
"""

ROUTES_OFF = "--accept-routes is false"


@click.command(cls=GoCommand, help="Connect to the tailnet, logging in if needed.")
@key_options
@options(SETTINGS)
@waiting_options
@flag("reset", help="Reset all settings that are not mentioned to their defaults.")
@flag("force-reauth", help="Log in anew even if logged in.")
@flag("json", help="Output JSON, one object a step.")
@flag(FORWARD, help="Have the kernel forward packets, now and at each start of this machine.")
@risks
@with_client
@click.pass_context
def command(  # noqa: PLR0913 - one a flag
    ctx: click.Context,
    /,
    client: LocalClient,
    *,
    keys: KeyInputs,
    waiting: Waiting,
    reset: bool,
    force_reauth: bool,
    json: bool,
    accept_risk: frozenset[str],
    **values: object,
) -> None:
    """Decide, do it, wait."""
    given: Mapping[str, str] = ctx.meta["given"]
    patience = Patience(waiting.timeout)
    status = client.status(peers=False)
    current = client.prefs()
    logged_in = status.have_node_key is True
    if "auth-key" not in given and logged_in and status.backend_state != "NeedsLogin":
        keys = replace(keys, auth_key="")  # from the environment: for the first login only
    wanted = wishes(SETTINGS, values, given)
    check_prefs(client, current, wanted)  # what is wrong is said before what would be reset
    if force_reauth:
        ask(accept_risk, "a new login would end it")
    plan = decide(
        Asked(
            wishes=wanted,
            given=given,
            auth_key=resolve(keys, {**current, **wanted}),
            reset=reset,
            force_reauth=force_reauth,
        ),
        status,
        current,
    )
    plan = replace(plan, qr=waiting.drawn)
    connect(client, status, plan, patience, json=json)
    if not json:
        if reminder := REMINDERS.get(given.get("netfilter-mode", "")):
            warn(f"Note: {reminder}")
        if OFFERS & given.keys():
            from tailnet.cli.forwarding import advise  # noqa: PLC0415 - most changes are others

            advise(client, given)
        for line in client.status(peers=False).health or ():
            if ROUTES_OFF in line:
                warn(f"Warning: {clean(line)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the user wants; ``wishes`` are prefs."""

    wishes: Prefs
    given: Mapping[str, str]
    auth_key: str
    reset: bool
    force_reauth: bool


def decide(asked: Asked, status: Status, current: Prefs) -> UpPlan:
    """Which way to go.

    Raises:
        Failure: a setting would be reset silently, or the server changed while connected.
    """
    running = status.backend_state == "Running"
    # A bare "up" means what is set already.
    start = {} if asked.given or asked.auth_key else current
    proposed = {s.pref: s.wish(start) for s in SETTINGS} | dict(asked.wishes)
    user = os.environ.get("USER", "")
    if "operator" not in asked.given and user and current.get("OperatorUser") == user:
        proposed["OperatorUser"] = user
    by_flag = {setting.flag: setting for setting in SETTINGS}
    server, tags = by_flag["login-server"], by_flag["advertise-tags"]
    server_changed = server.of(current) != server.of(proposed)
    if running and server_changed and not asked.force_reauth and "login-server" in asked.given:
        msg = "can't change --login-server without --force-reauth"
        raise Failure(msg)
    if current.get("ControlURL") and not asked.reset:
        check_reverts(asked.given, current, proposed)
    edit = {**(proposed if asked.reset else asked.wishes), "WantRunning": True}
    logged_in = status.have_node_key is True
    same_login = not server_changed and tags.of(current) == tags.of(proposed)
    if running and not asked.auth_key and not asked.force_reauth and same_login:
        return UpPlan(edit=edit, start=False, wait=False)
    needs_login = status.backend_state == "NeedsLogin"
    anew = asked.force_reauth and logged_in  # who was never in gets a new key in any case
    if not asked.given and logged_in and not needs_login and not asked.auth_key:
        return UpPlan(edit=edit, start=False, server=str(server.of(current)))
    return UpPlan(
        edit={**proposed, "WantRunning": True, "LoggedOut": False},
        start=True,
        auth_key=asked.auth_key,
        interactive=anew or (not asked.auth_key and (not logged_in or needs_login)),
        fresh_key=anew,
        server=str(server.of(proposed)),
    )


def check_reverts(given: Mapping[str, str], current: Prefs, proposed: Prefs) -> None:
    """Refuse to reset silently what an earlier command set.

    Raises:
        Failure: with the command line that says it all.
    """
    missing = [
        setting.argument(current)
        for setting in SETTINGS
        if setting.flag not in given and setting.of(current) != setting.of(proposed)
    ]
    if missing:
        import shlex  # noqa: PLC0415 - seldom needed

        by_flag = {setting.flag: setting for setting in SETTINGS}
        mentioned = [
            by_flag[name].argument(proposed)
            if name in by_flag
            else f"--{name}"
            if value == "true"
            else f"--{name}={shlex.quote(value)}"
            for name, value in given.items()
        ]
        raise Failure(GUARD.format(arguments=" ".join((*mentioned, *sorted(missing)))))
