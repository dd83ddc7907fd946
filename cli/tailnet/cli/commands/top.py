"""``tnet top``: which peers the traffic is with, live."""

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.flags import GoCommand
from tailnet.cli.live import Lookout
from tailnet.cli.screen import show
from tailnet.cli.text import parse_duration


@click.command(cls=GoCommand, help="Show which peers the traffic is with, live, until Ctrl-C.")
@click.option("-n", "times", type=click.IntRange(min=0), default=0, help="Looks (0: no end).")
@click.option("--every", metavar="DURATION", default="1s", help="Time between two looks.")
@with_client
def command(client: LocalClient, *, times: int, every: str) -> None:
    """Look again and again."""
    show(Lookout(client, busiest=True).take, every=pause(every), times=times)


def pause(text: str) -> float:
    """The time between two looks [s].

    Raises:
        BadParameter: it makes no sense.
    """
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not 0.1 <= seconds <= 3600:
        msg = "the time between two looks is 100ms to 1h"
        raise click.BadParameter(msg)
    return seconds
