"""What moves while somebody waits: on a terminal alone, and it leaves nothing behind."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tailnet.cli.working import Working

TNET = Path(sys.executable).with_name("tnet")


def read_until(fd: int, what: str) -> str:
    """What comes, up to that; it comes."""
    text = ""
    while what not in text:
        text += os.read(fd, 1 << 12).decode()
    return text


def test_a_terminal_shows_that_something_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the line is empty again afterwards."""
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with Working("waiting") as working:
            read_until(ours, "\r⠋ waiting …")
            working.stop()
            assert read_until(ours, "\x1b[K").endswith("\r\x1b[K")
    os.close(ours)


def test_a_terminal_that_can_do_little_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was begun that could draw."""
    monkeypatch.setenv("TERM", "dumb")
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        before = threading.active_count()
        with Working("waiting"):
            assert threading.active_count() == before
    os.close(ours)


def test_a_pipe_gets_the_message_alone(tmp_path: Path) -> None:
    """Nothing that moves."""
    command = [str(TNET), f"--socket={tmp_path}/s", "wait", "--timeout=20ms"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("timeout waiting")
