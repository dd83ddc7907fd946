"""``tnet`` from its first instruction: Ctrl-C may come while its modules are loaded."""

import sys
from typing import NoReturn

INTERRUPTED = 130  # as a shell counts SIGINT


def main() -> NoReturn:
    """Load the program and run it."""
    try:
        from tailnet.cli.main import main as run  # noqa: PLC0415 - may be interrupted, too

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
