"""What an idle daemon loads is most of its memory: packages are counted, not megabytes."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is loaded on Linux")

RUN = """
import sys
before = set(sys.modules)
import tailnet.agent.main
import tailnet.platform.linux.system
print(*sorted(set(sys.modules) - before))
"""
# Each name more is a decision; docs/performance.md says what they cost.
OTHERS = frozenset(
    """
    aiohappyeyeballs asyncinotify click h11 h2 hpack hyperframe immutables msgspec nacl noise psutil
    pyroute2 pytun typing_extensions zstandard
    """.split()  # noqa: SIM905 - one name a word reads better
)
# Loaded when they are used: with a system bus, with the other datapath, when somebody asks.
LATER = (
    "cProfile",
    "cryptography",
    "dbus_fast",
    "pstats",
    "sqlite3",
    "tracemalloc",
)


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    """Names of the modules of a daemon that has not begun anything."""
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True)
    return frozenset(done.stdout.split())


def test_a_daemon_loads_no_package_more_than_it_needs(loaded: frozenset[str]) -> None:
    """Of others'."""
    top = {name.partition(".")[0] for name in loaded}
    found = {name for name in top if not name.startswith("_")} - sys.stdlib_module_names
    assert found - {"tailnet"} <= OTHERS


@pytest.mark.parametrize("name", LATER)
def test_what_few_daemons_use_is_loaded_later(loaded: frozenset[str], name: str) -> None:
    """Not at the start."""
    assert name not in loaded


def test_the_other_datapath_is_loaded_later(loaded: frozenset[str]) -> None:
    """The parts of it that other rooms use may be there."""
    assert "tailnet.agent.datapath.reference.aio" not in loaded
    assert "tailnet.agent.crypto.inplace" not in loaded
