"""``tnet set``: change what is mentioned and nothing else."""

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.flags import GoCommand
from tailnet.cli.settings import SETTABLE, options, wishes


@click.command(cls=GoCommand, help="Change some settings; the others stay as they are.")
@options(SETTABLE)
@click.option("--accept-risk", default="", metavar="RISKS", hidden=True, help="No effect yet.")
@with_client
@click.pass_context
def command(ctx: click.Context, /, client: LocalClient, **values: object) -> None:
    """Without any flag, show help."""
    changes = wishes(SETTABLE, values, ctx.meta["given"])
    if changes:
        client.edit_prefs(changes)
    else:
        click.echo(ctx.get_help())
