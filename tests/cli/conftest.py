"""What most tests of commands want: a daemon that is connected."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import RUNNING, Daemon

from tailnet.agent.backend.prefs import Prefs


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Running, with one peer."""
    daemon = Daemon(FakeBackend(about=RUNNING), tmp_path / "s")
    daemon.backend.current = Prefs(control_url="https://c.example", logged_out=False)
    with served(daemon.backend, daemon.path, lambda _: daemon.uid):
        yield daemon
