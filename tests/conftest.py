"""Hypothesis profiles: ``dev`` explores, ``ci`` is the same every time; neither takes the time."""

import os
import signal
from collections.abc import Generator
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.scratch import prefer_memory

from tailnet.agent.datapath import native
from tailnet.agent.slices import much_to_keep

UNTIMED = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no defect
settings.register_profile("dev", UNTIMED)
settings.register_profile("ci", UNTIMED, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure() -> None:
    """Nothing begins with an extension that was built from other sources, as after a pull.

    And Ctrl-C works in what tests start, although a shell's background job ignores it.
    """
    prefer_memory()
    if find_spec("tailnet_native") is not None and (reason := native.why_not()):
        pytest.exit(f"{reason}: run 'make native'", returncode=pytest.ExitCode.USAGE_ERROR)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Tests stay: to look for garbage among them takes a third of the time to load them."""
    with much_to_keep():
        return (yield)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Hypothesis' tables of Unicode and of our constants are made outside of any test's time.

    In a new clone they take 5 s of CPU, which the first test that asks for text would have to find.
    """
    if any(item.get_closest_marker("hypothesis") for item in session.items):
        settings(UNTIMED, database=None, derandomize=True)(given(st.text())(lambda _: None))()
