"""Fixtures: labs that start in a second, and end whatever happens."""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from typing import NoReturn

import pytest
from integration.lab.lab import Lab
from integration.lab.net import why_not
from integration.lab.topology import Topology, flat
from tests.support.scratch import prefer_memory

from tailnet.agent.datapath import native
from tailnet.agent.slices import much_to_keep

LABS = pytest.StashKey[list[Lab]]()
LOG_LINES = 60

MakeLab = Callable[[Topology], Lab]


def cannot(why: str) -> NoReturn:
    """Skip the test, saying why; in CI, where everything is there, fail it."""
    if os.environ.get("CI"):
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


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


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without namespaces a test is skipped, saying why; in CI that is a failure."""
    if item.get_closest_marker("netns") is not None and (why := why_not()) is not None:
        cannot(why)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the last lines of every log of the labs that are open."""
    report = yield
    if report.failed:
        for lab in item.session.stash.get(LABS, []):
            report.sections.append(("logs of the lab", lab.logs(LOG_LINES)))
    return report


@pytest.fixture(scope="module")
def make_lab(request: pytest.FixtureRequest) -> Iterator[MakeLab]:
    """Make labs, started but with no daemon running; they end with the module."""
    mine: list[Lab] = []
    every = request.session.stash.setdefault(LABS, [])

    def make(topology: Topology) -> Lab:
        lab = Lab(topology)
        mine.append(lab)
        every.append(lab)
        lab.start()
        return lab

    yield make
    for lab in mine:
        lab.close()
        every.remove(lab)


@pytest.fixture(scope="module")
def pair(make_lab: MakeLab) -> Lab:
    """Two hosts of one tailnet, h1 and h2, with a direct path between them."""
    lab = make_lab(flat("h1", "h2"))
    lab.join()
    lab.wait_complete()
    return lab


@pytest.fixture(scope="module", params=["reference", "native"])
def relayed(make_lab: MakeLab, request: pytest.FixtureRequest) -> Lab:
    """Two hosts of one tailnet, h1 and h2, that cannot send UDP to each other; each datapath."""
    if request.param == "native" and find_spec("tailnet_native") is None:
        cannot("the native datapath is not built here")
    lab = make_lab(flat("h1", "h2", udp=False))
    lab.flags = (f"--datapath={request.param}",)
    lab.join()
    lab.wait_complete()
    return lab
