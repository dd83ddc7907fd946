"""``tnet bugreport``: a mark in the log, and what helps to find a fault, on this machine alone.

Source: tailscale cmd/tailscale/cli/bugreport.go.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import click

from tailnet.cli.bundle import README, gather, pack
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Failure
from tailnet.cli.flags import GoCommand
from tailnet.cli.text import clean
from tailnet.client.errors import ClientError

LOG_WAIT = 3.0  # seconds for the last marker to come by the log


@click.command(
    cls=GoCommand,
    help="Print a marker that is in the daemon's log too, to find the place again. "
    "Nothing is sent anywhere.",
)
@click.argument("note", required=False, default="")
@click.option("--diagnose", is_flag=True, help="Log how things stand, and look closer.")
@click.option("--record", is_flag=True, help="Wait for Enter, then print a second marker.")
@click.option("--bundle", metavar="FILE", help="Write what helps into a .tar.gz, without secrets.")
@with_client
def command(
    client: LocalClient, *, note: str, diagnose: bool, record: bool, bundle: str | None
) -> None:
    """Markers on stdout, everything else on stderr."""
    log = Log(client) if record and bundle else None
    marker = mark(client, note, diagnose=diagnose)
    click.echo(marker)
    if record:
        click.echo("Let it happen now; then press Enter.", err=True)
        sys.stdin.readline()
        last = mark(client, note, diagnose=False)
        click.echo(last)
        if log is not None:
            log.wait_for(last)
    if bundle is None:
        click.echo("Nothing was sent. --bundle FILE keeps here what helps.", err=True)
        return
    members = {
        "README.txt": README.format(marker=marker, note=clean(note)).encode(errors="replace")
    }
    members |= gather(client, diagnose=diagnose)
    if log is not None:
        members["log.jsonl"] = log.text()
    save(bundle, pack(marker, members))
    click.echo(
        f"Wrote {clean(bundle)}. Nothing was sent: look at it before you share it.", err=True
    )


def mark(client: LocalClient, note: str, *, diagnose: bool) -> str:
    """A new marker; the note is in the log with it."""
    kept = "".join(f"%{b:02X}" for b in note.encode(errors="replace")[:900])
    query = f"note={kept}" + ("&diagnose=true" if diagnose else "")
    return clean(client.request("POST", f"bugreport?{query}").decode())


class Log:
    """The daemon's log from now on."""

    def __init__(self, client: LocalClient) -> None:
        self._pieces: list[bytes] = []
        self._grown = threading.Condition()
        lines = client.stream("GET", "logtap")
        first = next(lines, b"")  # a refusal comes before anything else
        self._pieces.append(first)
        threading.Thread(target=self._follow, args=(lines,), daemon=True).start()

    def _follow(self, lines: Iterator[bytes]) -> None:
        with suppress(ClientError, KeyboardInterrupt):  # what has come is kept
            for piece in lines:
                with self._grown:
                    self._pieces.append(piece)
                    self._grown.notify_all()

    def text(self) -> bytes:
        """All of it."""
        return b"".join(self._pieces)

    def wait_for(self, marker: str) -> None:
        """Until it is there, but not for ever."""
        with self._grown:
            self._grown.wait_for(lambda: marker.encode() in self.text(), LOG_WAIT)


def save(path: str, data: bytes) -> None:
    """For its owner alone; a file that is there already is left alone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with open(os.open(path, flags, 0o600), "wb") as file:
            file.write(data)
    except (OSError, ValueError) as error:  # the latter for a NUL
        msg = f"cannot write {clean(path)}: {getattr(error, 'strerror', None) or error}"
        raise Failure(msg) from None
