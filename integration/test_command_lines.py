"""Command lines of every kind against a real daemon: neither it nor ``tnet`` falls over."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.topology import flat
from tests.support.commandlines import check, command_lines, run

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(240)]

LONG = {("netcheck",), ("debug", "portmap")}  # seconds each; their flags are tried without a daemon
PEERS = {"box": "h2", "100.64.0.2": "h2.lab.test"}


@pytest.fixture(scope="module")
def host(make_lab: MakeLab) -> Host:
    """Connected, with a peer."""
    lab = make_lab(flat("h1", "h2"))
    lab.join()
    lab.wait_complete()
    return lab.hosts["h1"]


def sensible(args: tuple[str, ...]) -> tuple[str, ...]:
    """The peer that there is, instead of the one of the tests without a daemon."""
    return tuple(PEERS.get(word, word) for word in args)


def quick(args: tuple[str, ...]) -> bool:
    """Whether it is worth trying here."""
    return args[:1] not in LONG and args[:2] not in LONG


@given(args=command_lines().filter(quick).map(sensible), connected=st.integers(0, 9))
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_command_line_is_too_much(
    args: tuple[str, ...], connected: int, host: Host, tmp_path: Path
) -> None:
    """Whatever came before it; now and then the machine is connected again."""
    if connected == 0:
        run(host.socket, ("up", "--reset", *host.up_arguments(AUTH_KEY)[1:]), tmp_path)
    check(run(host.socket, args, tmp_path))


def test_the_daemon_is_still_well(host: Host) -> None:
    """The same process, without a trace of trouble; it connects as ever."""
    assert host.running.returncode is None
    assert "Traceback" not in host.log.read_text()
    host.tnet("debug", "derp-unset-on-demand")  # who wished for no home has none, up or not
    host.tnet("up", "--reset", *host.up_arguments(AUTH_KEY)[1:], "--force-reauth")
    host.wait_running()
