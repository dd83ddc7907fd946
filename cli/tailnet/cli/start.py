"""``tnet`` from its first instruction to its last: nothing between them but its work.

Ctrl-C may come while its modules are loaded.
"""

import gc
import os
import sys
from typing import NoReturn

INTERRUPTED = 130  # as a shell counts SIGINT
NO_HURRY = 50_000  # objects between two looks for garbage; the modules alone have half of that


def main() -> NoReturn:
    """Load the program and run it."""
    gc.set_threshold(NO_HURRY)
    try:
        from tailnet.cli.main import main as run  # noqa: PLC0415 - may be interrupted, too

        run()
    except KeyboardInterrupt:
        leave(INTERRUPTED)
    except SystemExit as end:
        if isinstance(end.code, str) or _has_threads():
            raise
        leave(end.code or 0)


def _has_threads() -> bool:
    threading = sys.modules.get("threading")
    return threading is not None and threading.active_count() > 1


def leave(code: int) -> NoReturn:
    """End without taking every object apart, which takes longer than many a command."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed by who started us
                stream.flush()
    except OSError:
        sys.exit(code)  # says it as every Python program does
    os._exit(code)
