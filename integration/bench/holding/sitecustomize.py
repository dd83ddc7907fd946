"""Python's lock held for 200 of every 400 ms, in any program: put this folder on ``PYTHONPATH``.

SIGUSR1 begins and, the next time, ends it.  As a long callback in C would, nothing of Python runs
meanwhile.  Python imports this module by its name.
"""

import ctypes
import signal
import threading
import time

HELD = 0.2  # seconds
_going = threading.Event()


def _hold() -> None:
    keeping = ctypes.PyDLL(None)  # unlike CDLL, it does not let the lock go
    while _going.is_set():
        keeping.usleep(int(HELD * 1e6))
        time.sleep(HELD)


def _toggle(*_: object) -> None:
    if _going.is_set():
        _going.clear()
    else:
        _going.set()
        threading.Thread(target=_hold, daemon=True).start()


signal.signal(signal.SIGUSR1, _toggle)
