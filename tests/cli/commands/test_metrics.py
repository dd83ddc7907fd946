"""``tnet metrics``."""

import os
import stat
from pathlib import Path

from tests.support.tnet import Daemon

TEXT = "tailscaled_health_messages 0\n"


def test_printed_with_or_without_the_word(daemon: Daemon) -> None:
    """As in Go."""
    assert daemon.run("metrics").stdout == daemon.run("metrics", "print").stdout == TEXT


def test_written_whole_and_for_everybody_to_read(daemon: Daemon, tmp_path: Path) -> None:
    """In place of what was there; nothing else is left."""
    folder = tmp_path / "textfiles"
    folder.mkdir()
    path = folder / "tailnet.prom"
    path.write_text("old\n" * 1000)
    path.chmod(0o600)
    assert daemon.run("metrics", "write", str(path)).exit_code == 0
    assert path.read_text() == TEXT
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(folder.iterdir()) == [path]


def test_what_makes_no_sense(daemon: Daemon, tmp_path: Path) -> None:
    """One line each."""
    assert daemon.run("metrics", "write").exit_code == 2
    assert daemon.run("metrics", "print", "x").exit_code == 2
    refused = daemon.run("metrics", "write", str(tmp_path / "none" / "x"))
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "No such file" in refused.stderr
    (tmp_path / "taken").mkdir()
    assert daemon.run("metrics", "write", str(tmp_path / "taken")).exit_code == 1
    assert not list(tmp_path.glob(".taken*"))


def test_what_is_no_file_is_not_replaced(daemon: Daemon, tmp_path: Path) -> None:
    """A pipe here; a device would be lost to the whole machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused = daemon.run("metrics", "write", str(pipe))
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
