"""The service manager's socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailnet.platform.linux.notify import READY, notify, watchdog


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Listening."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def test_states_arrive_in_one_datagram(manager: socket.socket) -> None:
    """A line each."""
    assert notify(READY, "STATUS=Connected", environ={"NOTIFY_SOCKET": manager.getsockname()})
    assert manager.recv(1000) == b"READY=1\nSTATUS=Connected"


def test_status_cannot_pose_as_another_state(manager: socket.socket) -> None:
    """It may hold a name that somebody else chose."""
    notify("STATUS=a\nMAINPID=1\u2028b", environ={"NOTIFY_SOCKET": manager.getsockname()})
    assert manager.recv(1000) == b"STATUS=a MAINPID=1 b"


def test_abstract_socket_is_reached() -> None:
    """Its name starts with @."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")  # the kernel chooses
        sock.settimeout(5)
        name = "@" + sock.getsockname()[1:].decode()
        assert notify(READY, environ={"NOTIFY_SOCKET": name})
        assert sock.recv(1000) == b"READY=1"


@pytest.mark.parametrize("where", [None, "", "relative", "/nonexistent/notify", "@nobody-here"])
def test_nobody_listening_is_no_error(where: str | None) -> None:
    """The daemon runs without a manager too."""
    assert not notify(READY, environ={} if where is None else {"NOTIFY_SOCKET": where})


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_ours_if_it_names_us_or_nobody(
    environ: dict[str, str], seconds: float | None
) -> None:
    """And has a time."""
    assert watchdog(environ, pid=7) == seconds
