"""Where tests write."""

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.support import scratch


def _says(monkeypatch: pytest.MonkeyPatch, *, free: int, flags: int = 0) -> None:
    found = SimpleNamespace(f_bavail=free // 4096, f_frsize=4096, f_flag=flags)
    monkeypatch.setattr(os, "statvfs", lambda _: found)


@pytest.mark.parametrize(
    ("free", "flags", "good"),
    [
        (scratch.ENOUGH, 0, True),
        (scratch.ENOUGH, os.ST_NOSUID, True),
        (scratch.ENOUGH - 4096, 0, False),
        (scratch.ENOUGH, os.ST_NOEXEC, False),
        (scratch.ENOUGH, os.ST_NODEV, False),
    ],
)
def test_memory_is_taken_where_all_tests_can_run_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, flags: int, good: bool
) -> None:
    """A container's is too small or executes nothing."""
    _says(monkeypatch, free=free, flags=flags)
    assert scratch.in_memory(tmp_path) == good


def test_where_there_is_none_the_disk_does(tmp_path: Path) -> None:
    """No such directory."""
    assert not scratch.in_memory(tmp_path / "shm")


@pytest.mark.parametrize("said", ["/somewhere", None])
def test_who_says_where_is_obeyed(monkeypatch: pytest.MonkeyPatch, said: str | None) -> None:
    """``TMPDIR``; without it memory, for children as well."""
    monkeypatch.setattr(tempfile, "tempdir", "/kept")
    if said is None:
        monkeypatch.delenv("TMPDIR", raising=False)
    else:
        monkeypatch.setenv("TMPDIR", said)
    _says(monkeypatch, free=scratch.ENOUGH)
    scratch.prefer_memory()
    assert os.environ["TMPDIR"] == (said or str(scratch.MEMORY))
    assert (tempfile.tempdir == "/kept") == (said is not None)
