"""``tnet login``: join a tailnet, in a browser or with a key.

Source: tailscale cmd/tailscale/cli/login.go.
"""

from collections.abc import Mapping
from dataclasses import replace

import click

from tailnet.agent.localapi.schema import Status
from tailnet.cli.authkey import KeyInputs, key_options, resolve
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import DURATION, GoCommand, flag
from tailnet.cli.login import Patience, UpPlan, check_prefs, connect
from tailnet.cli.qr import FORMATS
from tailnet.cli.settings import SETTINGS, Prefs, options, wishes
from tailnet.cli.text import clean


@click.command(cls=GoCommand, help="Log in to a tailnet.")
@key_options
@options(SETTINGS)
@click.option(
    "--timeout",
    type=DURATION,
    default=0.0,
    metavar="DURATION",
    help="How long to wait for a connection, such as 30s; 0s is for ever.",
)
@flag("qr", help="Show a QR code of the login URL too.")
@click.option(
    "--qr-format",
    type=click.Choice(FORMATS),
    default="auto",
    help="How to draw it: for any terminal (ascii), or with Unicode blocks.",
)
@with_client
@click.pass_context
def command(  # noqa: PLR0913 - one a flag
    ctx: click.Context,
    /,
    client: LocalClient,
    *,
    auth_key: str,
    client_id: str,
    client_secret: str,
    id_token: str,
    audience: str,
    timeout: float,
    qr: bool,
    qr_format: str,
    **values: object,
) -> None:
    """As ``up``, for a machine that has no login."""
    given: Mapping[str, str] = ctx.meta["given"]
    patience = Patience(timeout)
    status = client.status(peers=False)
    refuse_second_login(status)
    current = client.prefs()
    wanted = wishes(SETTINGS, values, given)
    check_prefs(client, current, wanted)
    inputs = KeyInputs(auth_key, client_id, client_secret, id_token, audience)
    plan = plan_login(current, wanted, resolve(inputs, {**current, **wanted}))
    connect(client, status, replace(plan, qr=qr_format if qr else ""), patience, json=False)


def refuse_second_login(status: Status) -> None:
    """One account at a time, for now.

    Raises:
        Failure: there is a login, which would be lost.
    """
    if status.have_node_key is True and status.backend_state != "NeedsLogin":
        tailnet = clean(status.current_tailnet.name) if status.current_tailnet else "a tailnet"
        msg = (
            f"already logged in to {tailnet}; to log in anew, run: tnet up --force-reauth "
            "(to another account: tnet logout first)"
        )
        raise Failure(msg)


def plan_login(current: Prefs, wanted: Prefs, auth_key: str) -> UpPlan:
    """What is set stays; the rest is as for a new machine."""
    prefs = {s.pref: s.of(current) for s in SETTINGS} | dict(wanted)
    return UpPlan(
        edit={**prefs, "WantRunning": True, "LoggedOut": False},
        start=True,
        auth_key=auth_key,
        interactive=not auth_key,
        server=str(prefs["ControlURL"]),
    )
