"""No command line makes ``tnet`` fall over, with a daemon or without one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from tests.agent.trace.test_walks import box, facts
from tests.support.commandlines import COMMANDS, check, command_lines, run
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import RUNNING

MANY = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[FakeBackend, Path]]:
    """A daemon that is connected, and its socket."""
    backend = FakeBackend(about=RUNNING, looked_at=facts(box()))
    with served(backend, tmp_path / "s"):
        yield backend, tmp_path / "s"


@given(args=command_lines())
@MANY
def test_without_a_daemon(args: tuple[str, ...], tmp_path: Path) -> None:
    """Every command says so, or what is wrong with its flags."""
    ended = run(tmp_path / "s", args, tmp_path)
    check(ended)
    if ended.code == 1:
        assert ended.stderr


@given(args=command_lines())
@MANY
@example(args=("set", "--hostname=\udcff"))
@example(args=("up", "--timeout=0.000000001s"))
@example(args=("bugreport", "\udcff", "--bundle=a\0b"))
@example(args=("metrics", "write", "a\0\udcff"))
@example(args=("metrics", "write", ""))
def test_with_a_daemon(
    args: tuple[str, ...], running: tuple[FakeBackend, Path], tmp_path: Path
) -> None:
    """It may do what it says, and is told whatever it did not expect."""
    backend, path = running
    backend.about = RUNNING
    check(run(path, args, tmp_path))


def test_every_command_is_among_them() -> None:
    """Of the tree that there is now."""
    assert {("up",), ("dns", "query"), ("debug", "capture")} <= set(COMMANDS)
