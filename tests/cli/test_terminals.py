"""Terminals that are narrow, or can do little, or say nonsense of themselves."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import msgspec
import pytest
from tests.support.tnet import Daemon

TNET = Path(sys.executable).with_name("tnet")
LONG = "a-machine-whose-name-is-longer-than-many-a-terminal-is-wide"


def on_a_terminal(columns: int, rows: int, *args: str, **env: str) -> tuple[int, list[str]]:
    """Exit code, and the lines that are seen."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    known = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(
        [TNET, *args], stdin=theirs, stdout=theirs, stderr=theirs, env={**known, **env}
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while more := os.read(ours, 1 << 16):
                seen += more
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    return process.returncode, seen.decode().splitlines()


@pytest.mark.parametrize("columns", [0, 1, 10, 40, 80, 500])
def test_a_thousand_peers_fit(daemon: Daemon, columns: int) -> None:
    """A line each; below 40 columns a terminal has to fold them."""
    one = next(iter((daemon.backend.about.peer or {}).values()))
    peers = {
        str(n): msgspec.structs.replace(
            one,
            id=str(n),
            public_key=str(n),
            dns_name=f"{LONG}-{n}.example.ts.net.",
            tailscale_ips=(f"100.64.{n >> 8}.{n & 255}",),
        )
        for n in range(1000)
    }
    daemon.backend.about = msgspec.structs.replace(daemon.backend.about, peer=peers)
    code, lines = on_a_terminal(columns, 24, f"--socket={daemon.path}", "status", TERM="xterm")
    assert code == 0
    assert sum(line.startswith("100.64.") for line in lines) >= 1000
    assert max(map(len, lines)) <= max(40, columns or 80)


@pytest.mark.parametrize("columns", [1, 20, 40, 100])
@pytest.mark.parametrize("command", ["--help", "status"])
def test_help_is_as_wide_as_the_terminal(columns: int, command: str) -> None:
    """As far as words and flags can be folded."""
    args = [command] if command == "--help" else [command, "--help"]
    code, lines = on_a_terminal(columns, 24, *args, TERM="xterm")
    assert code == 0
    assert max(map(len, lines)) <= max(27, columns)


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(daemon: Daemon, term: str) -> None:
    """As a pipe does."""
    args = (f"--socket={daemon.path}", "top", "-n", "1")
    code, lines = on_a_terminal(80, 24, *args, TERM=term)
    assert code == 0
    assert any(line.startswith("Peer") for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_no_colour_is_none(daemon: Daemon) -> None:
    """Whatever the terminal can."""
    args = (f"--socket={daemon.path}", "top", "-n", "1")
    _, lines = on_a_terminal(80, 24, *args, TERM="xterm-256color", NO_COLOR="1")
    assert lines
    assert not any("\x1b[3" in line for line in lines)
