"""Where the daemon's socket is, and why there is no answer, said to a person."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from msgspec import DecodeError, json

from tailnet.client.errors import NotRunning, Refused, TimedOut
from tailnet.client.wire import Nonsense

ROOT_SOCKET = "/run/tailnetd/tailnetd.sock"
UNITS = ("/etc/systemd/system/tailnetd.service", "/usr/lib/systemd/system/tailnetd.service")
SYSTEMD = "/run/systemd/system"  # there while systemd is what started this machine
MAX_PATH = 107  # bytes; unix(7), sun_path without its end
ADVICE = "Use 'sudo tnet …', or run 'sudo tnet set --operator=$USER' once."


def is_root() -> bool:
    """Whether this user may do everything anyway."""
    return os.geteuid() == 0


def find_socket() -> str:
    """The socket of this user's daemon, or of root's, whichever is there."""
    if is_root():
        return ROOT_SOCKET
    own = f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.geteuid()}'}/tailnetd.sock"
    return own if os.path.exists(own) else ROOT_SOCKET


def refused(status: int, body: bytes) -> Refused:
    """What a status and its text mean."""
    text = body.decode(errors="replace").strip()
    with suppress(DecodeError):
        text = json.decode(body, type=dict[str, str]).get("Error", text)
    message = "".join(c for c in text if c.isprintable())
    message = message or f"tailnetd answered with status {status}"
    if status == 403 and not is_root():
        message += f"\n{ADVICE}"
    return Refused(status, message)


def not_running(path: str, error: OSError) -> NotRunning:
    """Why there is no connection, and what to do."""
    usual = find_socket()
    if isinstance(error, FileNotFoundError):
        text = f"tailnetd is not running (no socket at {path}); {_start(path, usual)}"
        if path != usual and os.path.exists(usual):
            text = f"no socket at {path}; there is one at {usual}, used without --socket"
    elif isinstance(error, ConnectionRefusedError):
        why = f"nobody answers at {path}, which a daemon left when it ended"
        text = f"tailnetd is not running ({why}); {_start(path, usual)}"
        if not _is_socket(path):
            text = f"{path} is not a socket; tailnetd's is named by its flag --socket"
    elif isinstance(error, PermissionError):
        advice = "use sudo, or the account that runs tailnetd"
        text = f"no permission to use the socket {path}; {advice}"
    elif len(os.fsencode(path)) > MAX_PATH:
        text = f"the path of a socket has at most {MAX_PATH} bytes, not as {path}"
    else:
        text = f"cannot reach tailnetd at {path}: {error.strerror or error}"
    return NotRunning(text)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _start(path: str, usual: str) -> str:
    """How to start the daemon that would listen there."""
    if path == ROOT_SOCKET and os.path.isdir(SYSTEMD) and any(map(os.path.exists, UNITS)):
        return "start it with: sudo systemctl start tailnetd (its log: journalctl -u tailnetd)"
    where = "" if path == usual else f" --socket={path}"
    return f"start it with: sudo tailnetd{where}"


@contextmanager
def in_words() -> Iterator[None]:
    """What goes wrong with a connection, said to a person."""
    try:
        yield
    except TimeoutError:
        msg = "tailnetd does not answer; its log may say why, and a restart helps"
        raise TimedOut(msg) from None
    except Nonsense as error:
        msg = f"no sense in what tailnetd answers: {error}"
        raise NotRunning(msg) from None
    except ConnectionError:
        msg = "tailnetd hung up before it answered; its log may say why"
        raise NotRunning(msg) from None
    except OSError as error:
        msg = f"no sense in what tailnetd answers: {error.strerror or error}"
        raise NotRunning(msg) from None
