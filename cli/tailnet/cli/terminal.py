"""What is shown to people, as wide as their terminal."""

import sys
from collections.abc import Iterable, Sequence

from tailnet.cli.text import table


def room() -> int | None:
    """Columns of the terminal; ``None`` where the output goes elsewhere."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    import shutil  # noqa: PLC0415 - loaded by click

    return shutil.get_terminal_size().columns


def fitted(rows: Iterable[Sequence[str]]) -> list[str]:
    """A table that fits; for pipes it is as wide as it is."""
    return table(rows, room())
