"""``tnet wait``: until connected, and the address is on an interface.

Source: tailscale cmd/tailscale/cli/wait.go.
"""

import socket
import time

import click

from tailnet.agent.localapi.schema.status import Status
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.flags import DURATION, GoCommand
from tailnet.cli.login import Patience
from tailnet.cli.working import Working
from tailnet.client.errors import NotRunning, TimedOut

FIRST_RETRY, LAST_RETRY = 0.1, 2.0  # seconds


@click.command(cls=GoCommand, help="Wait until this machine is connected.")
@click.option(
    "--timeout", type=DURATION, default=0.0, metavar="DURATION", help="Patience; 0s is for ever."
)
@with_client
def command(client: LocalClient, *, timeout: float) -> None:
    """Look, and look again; a daemon that is not there yet may still come."""
    with Working("waiting for a connection"):
        wait(client, Patience(timeout))


def wait(client: LocalClient, patience: Patience) -> None:
    """Until there is one.

    Raises:
        TimedOut: the patience ended.
    """
    pause = FIRST_RETRY
    while True:
        left = patience.left()
        try:
            if is_up(client.status(peers=False)):
                return
            pause = FIRST_RETRY
        except (NotRunning, TimedOut):
            pause = min(pause * 2, LAST_RETRY)
        time.sleep(pause if left is None else min(pause, left))


def is_up(status: Status) -> bool:
    """Running, with an address that this machine has if there is an interface for it."""
    if status.backend_state != "Running" or not status.tailscale_ips:
        return False
    return not status.tun or any(map(_is_local, status.tailscale_ips))


def _is_local(ip: str) -> bool:
    """Only an address of this machine can be bound."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((ip, 0))
    except OSError:
        return False
    return True
