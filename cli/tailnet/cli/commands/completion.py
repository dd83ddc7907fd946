"""``tnet completion``: what makes a shell complete its commands, flags and peers.

Source: tailscale cmd/tailscale/cli/ffcomplete.
"""

import click

from tailnet.cli.completing import script
from tailnet.cli.flags import GoCommand


@click.command(
    cls=GoCommand,
    help="Print the completion script of a SHELL: bash, zsh or fish.",
    epilog="bash: source <(tnet completion bash) in ~/.bashrc",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
@click.pass_context
def command(ctx: click.Context, *, shell: str) -> None:
    """To be sourced."""
    click.echo(script(shell, ctx.find_root().command), nl=False)
