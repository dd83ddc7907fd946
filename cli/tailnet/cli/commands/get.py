"""``tnet get``: settings as the flags of ``tnet set``.

Source: tailscale cmd/tailscale/cli/get.go.
"""

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand, flag, suggest
from tailnet.cli.jsontext import indented
from tailnet.cli.settings import NICKNAME, PATHS, RELAY, SETTINGS
from tailnet.cli.terminal import fitted
from tailnet.cli.text import clean


@click.command(cls=GoCommand, help="Show one setting, or all.")
@click.argument("setting", default="all", metavar="[SETTING|all]")
@flag("json", help="Output JSON.")
@flag("set-flags", help="Output as flags of tnet set.")
@with_client
def command(client: LocalClient, *, setting: str, json: bool, set_flags: bool) -> None:
    """One value as it is, all as a table."""
    settings = (*SETTINGS, NICKNAME, *PATHS, *RELAY)
    names = [s.flag for s in settings]
    if setting != "all" and setting not in names:
        msg = f"unknown setting: {setting}{suggest(setting, names)}"
        raise Failure(msg)
    prefs = client.prefs()
    shown = [s for s in settings if setting in ("all", s.flag)]
    if json:
        values = {
            s.flag: s.of(prefs) if s.default in (True, False) else s.show(prefs) for s in shown
        }
        click.echo(indented(values))
    elif set_flags:
        click.echo(clean(" ".join(s.argument(prefs) for s in shown if s.in_set)))
    elif setting != "all":
        click.echo(clean(shown[0].show(prefs)))
    else:
        rows = [("NAME", "VALUE"), *((s.flag, clean(s.show(prefs))) for s in shown)]
        for line in fitted(rows):
            click.echo(line)
