"""``tnet version``."""

import click
from msgspec import UnsetType

from tailnet.agent._version import CAPABILITY_VERSION
from tailnet.agent.localapi.schema.basics import VERSION
from tailnet.agent.localapi.schema.status import Status
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.login import say
from tailnet.cli.text import clean


@click.command(cls=GoCommand, help="Show versions.")
@flag("daemon", help="Show the daemon's version too.")
@flag("json", help="Output JSON.")
@with_client
def command(client: LocalClient, *, daemon: bool, json: bool) -> None:
    """The daemon is asked only if wanted."""
    status = client.status(peers=False) if daemon else None
    theirs = clean(status.version) if status else ""
    moved_by = _datapath(status) if status else ""
    if json:
        say(
            majorMinorPatch=VERSION.partition("+")[0],
            short=VERSION,
            long=VERSION,
            daemonLong=theirs,
            daemonDatapath=moved_by,
            cap=CAPABILITY_VERSION,
        )
    elif daemon:
        click.echo(f"Client: {VERSION}\nDaemon: {theirs}{f' ({moved_by})' if moved_by else ''}")
    else:
        click.echo(VERSION)


def _datapath(status: Status) -> str:
    """What moves the packets, in a few words; older daemons do not say."""
    about = status.datapath
    if isinstance(about, UnsetType):
        return ""
    return clean(f"{about.name} datapath {about.version}, {about.aead}")
