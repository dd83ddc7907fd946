"""What an idle daemon needs of the machine's memory, connected and with one peer.

::

    h1 ── bridge: control, DERP, STUN ── h2
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.conftest import cannot
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

from tailnet.agent.datapath.native import why_not

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(60)]

MAX_RESIDENT = 64_000_000  # bytes; docs/performance.md has where they go
UNUSED = ("cryptography", "dbus_fast")  # with the native datapath, and without a system bus


def proc(lab: Lab, name: str) -> str:
    """A file of h1's daemon below ``/proc``."""
    return Path(f"/proc/{lab.hosts['h1'].running.pid}/{name}").read_text()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """h1 has started before: the first time, modules are compiled, which takes memory.

    The relay's certificate is not pinned: that would be 10 MB more, for the library that reads it.
    """
    if reason := why_not():
        cannot(reason)
    if "COVERAGE_PROCESS_START" in os.environ:
        pytest.skip("the daemon holds what coverage needs")
    with Lab(flat("h1", "h2"), pinned=False) as lab:
        lab.join()
        lab.wait_complete()
        one = lab.hosts["h1"]
        one.stop()
        one.start()
        one.wait_running()
        yield lab


def test_an_idle_daemon_is_small(lab: Lab) -> None:
    """With the native datapath and a direct path to its peer."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]

    def direct() -> str:
        one.ping_os(two.ipv4, count=1)
        return one.path_to("h2")

    until("a direct path", direct, 20)
    found = re.search(r"^Rss:\s+(\d+) kB$", proc(lab, "smaps_rollup"), re.MULTILINE)
    assert found is not None
    assert int(found.group(1)) * 1024 <= MAX_RESIDENT


@pytest.mark.parametrize("package", UNUSED)
def test_a_library_that_is_not_needed_is_not_loaded(lab: Lab, package: str) -> None:
    """The relay's certificate is Python's own OpenSSL's to verify."""
    assert f"/{package}/" not in proc(lab, "maps")
