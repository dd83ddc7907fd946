"""What moves while somebody waits: on a terminal alone, and it leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

TNET = Path(sys.executable).with_name("tnet")


def waited(stderr: int, tmp_path: Path) -> int:
    """A command that waits for a daemon for longer than a moment."""
    command = [str(TNET), f"--socket={tmp_path}/s", "wait", "--timeout=1s"]
    env = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, stderr=stderr, env=env, check=False).returncode


def test_a_terminal_shows_that_something_goes_on(tmp_path: Path) -> None:
    """And the line is empty again before the message."""
    ours, theirs = os.openpty()
    assert waited(theirs, tmp_path) == 1
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "\r⠋ waiting for a connection …" in shown
    _, found, after = shown.rpartition("\r\x1b[K")
    assert found
    assert after.startswith("timeout waiting")


def test_a_pipe_gets_the_message_alone(tmp_path: Path) -> None:
    """Nothing that moves."""
    reading, writing = os.pipe()
    assert waited(writing, tmp_path) == 1
    os.close(writing)
    with os.fdopen(reading) as file:
        assert file.read().startswith("timeout waiting")
