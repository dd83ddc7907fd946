"""``tnet uninstall``: what ``tnet install`` did, taken back."""

from pathlib import Path

import click

from tailnet.cli.commands.install import ROOT, binaries, check_rights, kind_of
from tailnet.cli.flags import GoCommand
from tailnet.cli.services import host
from tailnet.cli.services.catalogue import Kind, service


@click.command(cls=GoCommand, help="Stop the service that tnet install made, and remove it.")
@click.option("--user", is_flag=True, help="The service of this user.")
@click.option("--userspace", is_flag=True, help="The one without a network device.")
@click.option("--purge", is_flag=True, help="Also remove keys and settings, for good.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Only remove the files, below DIR.",
)
def command(*, user: bool, userspace: bool, purge: bool, root: Path | None) -> None:
    """Stop, remove, and say what stays; a second time changes nothing."""
    kind = kind_of(user=user, userspace=userspace)
    if kind is Kind.SYSTEM:
        kind = Kind.UNPRIVILEGED  # the same, and what it has more
    what = service(kind, binaries(), Path.home())
    if root is None:
        check_rights(kind, "tnet uninstall")
        systemctl = host.Systemctl(user=user)
        systemctl.check()
        systemctl.quietly("disable", "--now", what.unit, *what.others)
        if kind is Kind.UNPRIVILEGED:  # or the kill switch would stand, and nobody to lift it
            _ = host.run([str(binaries() / "tailnetd"), "--cleanup", "--remove-guard"])
        host.take_away(what.files, ROOT, click.echo)
        systemctl("daemon-reload")
    else:
        host.take_away(what.files, root, click.echo)
    if purge:
        host.purge(what.state, root or ROOT, click.echo)
    elif host.below(root or ROOT, what.state).exists():
        click.echo(f"keys and settings stay in {what.state}; --purge removes them, too")
