"""``tnet metrics``: what the daemon counts, for Prometheus.

Source: tailscale cmd/tailscale/cli/metrics.go.
"""

import contextlib
import os

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.text import clean


@click.command(
    cls=GoCommand,
    help="Print the daemon's metrics as Prometheus text (print), or write them to a file "
    "(write PATH), as for the textfile collector of node_exporter.",
)
@click.argument("action", type=click.Choice(["print", "write"]), default="print")
@click.argument("path", type=click.Path(), required=False)
@with_client
def command(client: LocalClient, *, action: str, path: str | None) -> None:
    """Whole, or not at all."""
    if (path is not None) != (action == "write"):
        msg = "only `tnet metrics write` takes a PATH, and needs one"
        raise click.UsageError(msg)
    text = client.request("GET", "usermetrics")
    if path is None:
        click.echo(text, nl=False)
        return
    if os.path.lexists(path) and not os.path.isfile(path):
        msg = f"{clean(path)} is not a file: what is there would be lost"  # a device, for one
        raise Failure(msg)
    try:
        replace(path, text)
    except (OSError, ValueError) as error:  # the latter for a NUL
        msg = f"cannot write {clean(path)}: {getattr(error, 'strerror', None) or error}"
        raise Failure(msg) from None


def replace(path: str, data: bytes) -> None:
    """A new file in the old one's place, for everybody to read; nobody ever sees half of it."""
    import tempfile  # noqa: PLC0415 - most only print

    folder, name = os.path.split(path)
    fd, new = tempfile.mkstemp(dir=folder or ".", prefix=f".{name}.")
    try:
        with open(fd, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
