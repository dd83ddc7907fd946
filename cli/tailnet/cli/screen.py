"""A table that is drawn again and again, as long as somebody looks."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence

import click

from tailnet.agent import clock
from tailnet.cli.text import table

Row = Sequence[str]


class Picture:
    """One look: a headline, a table, and lines below it; all text is clean already.

    ``right``: columns of numbers.
    """

    def __init__(
        self,
        title: str,
        header: Row,
        rows: Iterable[Row],
        below: Iterable[str] = (),
        right: frozenset[int] = frozenset(),
    ) -> None:
        self.title = title
        self.header = header
        self.rows = [tuple(row) for row in rows]
        self.below = tuple(below)
        self.right = right

    def plain(self) -> list[str]:
        """The lines, for pipes."""
        return [self.title, *table([self.header, *self.rows]), *self.below]


def show(take: Callable[[], Picture], *, every: float, times: int) -> None:
    """Draw until Ctrl-C, or so many ``times``; on a terminal in place, elsewhere line by line.

    Args:
        take: a new look.
        every: seconds between two.
        times: 0 is for ever.
    """
    if not sys.stdout.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        for _ in _looks(times):
            for line in take().plain():
                click.echo(line)
            if times != 1:
                click.echo("")
                time.sleep(every)
        return
    _live(take, every=every, times=times)


def _looks(times: int) -> Iterable[int]:
    return range(times) if times else iter(int, 1)


def _live(take: Callable[[], Picture], *, every: float, times: int) -> None:
    from rich.console import Console, Group  # noqa: PLC0415 - only for people
    from rich.live import Live  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()

    def draw(picture: Picture) -> Group:
        drawn = Table(box=None, pad_edge=False, expand=False, header_style="bold")
        for i, name in enumerate(picture.header):
            drawn.add_column(
                name, justify="right" if i in picture.right else "left", overflow="ellipsis",
                no_wrap=True,
            )  # fmt: skip
        notes = Text("\n".join(picture.below), style="yellow")
        below = list(notes.wrap(console, console.width)) if picture.below else []
        room = max(1, console.height - 3 - len(below))
        for row in picture.rows[:room]:
            drawn.add_row(*(Text(cell) for cell in row))
        hidden = len(picture.rows) - room
        more = [Text(f"… and {hidden} more", style="dim")] if hidden > 0 else []
        title = Text(picture.title, style="bold", no_wrap=True, overflow="ellipsis")
        return Group(title, drawn, *more, *below)

    with Live(console=console, screen=not times, auto_refresh=False) as live:
        for _ in _looks(times):
            began = clock.now()
            live.update(draw(take()), refresh=True)
            time.sleep(max(0.1, every - (clock.now() - began)))
