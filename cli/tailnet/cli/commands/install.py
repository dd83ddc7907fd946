"""``tnet install``: make tailnetd a service of this host, or of one user."""

import os
import sys
from pathlib import Path

import click

from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.services import host
from tailnet.cli.services.catalogue import Kind, Manager, Service, service, shown

ROOT = Path("/")


def kind_of(*, user: bool, userspace: bool, unprivileged: bool = False) -> Kind:
    """What the flags mean.

    Raises:
        UsageError: more than one of them.
    """
    if user + userspace + unprivileged > 1:
        msg = "--user, --userspace and --unprivileged exclude each other"
        raise click.UsageError(msg)
    if user:
        return Kind.USER
    if userspace:
        return Kind.USERSPACE
    return Kind.UNPRIVILEGED if unprivileged else Kind.SYSTEM


def binaries() -> Path:
    """Where this ``tnet`` is, and its ``tailnetd``."""
    return Path(sys.argv[0]).absolute().parent


def check_rights(kind: Kind, command: str) -> None:
    """Only root changes the system.

    Raises:
        Failure: this is somebody else.
    """
    if kind is not Kind.USER and os.geteuid() != 0:
        msg = f"only root can do that: sudo {command}; or for yourself alone: {command} --user"
        raise Failure(msg)


@click.command(cls=GoCommand, help="Make tailnetd a service that starts with this machine.")
@click.option("--user", is_flag=True, help="A service of this user, without a network device.")
@click.option("--userspace", is_flag=True, help="Without a network device, as a powerless user.")
@click.option(
    "--unprivileged", is_flag=True, help="With a network device, as a user with two capabilities."
)
@click.option(
    "--print",
    "show",
    is_flag=False,
    flag_value=Manager.SYSTEMD.value,
    default=None,
    type=click.Choice([manager.value for manager in Manager]),
    metavar="[=systemd|openrc|launchd|windows]",
    help="Only show the files of this service manager.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Only write the files, below DIR; for images and packages.",
)
def command(
    *, user: bool, userspace: bool, unprivileged: bool, show: str | None, root: Path | None
) -> None:
    """Write what is missing, then let systemd start it; a second time changes nothing."""
    kind = kind_of(user=user, userspace=userspace, unprivileged=unprivileged)
    if show is not None:
        click.echo(shown(Manager(show), kind, binaries(), Path.home()), nl=False)
        return
    what = service(kind, binaries(), Path.home())
    if root is not None:
        host.put(what.files, root, click.echo)
        return
    check_rights(kind, "tnet install")
    systemctl = host.Systemctl(user=user)
    systemctl.check()
    if kind is not Kind.USER:
        host.check_programs(binaries())
    changed = host.put(what.files, ROOT, click.echo)
    _start(systemctl, kind, what, changed=changed)
    click.echo(f"{what.unit} runs, and starts with this machine; join a tailnet with: tnet up")


def _start(systemctl: host.Systemctl, kind: Kind, what: Service, *, changed: bool) -> None:
    if kind is Kind.UNPRIVILEGED and (refused := host.run(["systemd-sysusers"])).returncode != 0:
        raise Failure(refused.stderr.strip() or "systemd-sysusers failed")
    if kind in {Kind.SYSTEM, Kind.UNPRIVILEGED}:
        _ = host.run(["modprobe", "tun"])  # or it is built in; if not, tailnetd will say so
    if changed:
        systemctl("daemon-reload")
    systemctl("enable", what.unit)
    systemctl("restart" if changed else "start", what.unit)
