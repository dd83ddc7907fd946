"""Tell the service manager how we are: one datagram to the socket it named.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger("tailnet.platform")

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def watchdog(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """Seconds after which the service manager takes our silence for death; ``None``: it does not.

    ``pid`` is ours; the variables may be meant for a process that started us.
    """
    meant = environ.get("WATCHDOG_PID")
    text = environ.get("WATCHDOG_USEC", "")
    if meant not in {None, str(os.getpid() if pid is None else pid)} or not text.isdecimal():
        return None
    return int(text) / 1e6 or None


def notify(*states: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send ``states``, such as ``READY``, ``STATUS=…``; False where nobody listens.

    Line breaks within a state become spaces, so that no text can pose as another state.
    """
    where = environ.get("NOTIFY_SOCKET", "")
    if not where.startswith(("/", "@")):
        return False
    address = "\0" + where[1:] if where.startswith("@") else where
    message = "\n".join(" ".join(state.splitlines()) for state in states)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.connect(address)
            sock.send(message.encode())
    except OSError as error:
        log.debug("service manager not told: %s", error)
        return False
    return True
