"""How the program begins: what it loads is nothing for the collector."""

import subprocess
import sys

import pytest

RUN = """
import gc, sys
from tailnet.agent.start import main
sys.argv = ["tailnetd", "--version"]
try:
    main()
finally:
    alive = sum(type(each).__name__ == "function" for each in gc.get_objects())
    print(gc.isenabled(), gc.get_freeze_count(), alive)
"""


@pytest.mark.slow
def test_what_is_loaded_at_the_start_is_never_looked_at_again() -> None:
    """The collector works as ever; the modules, tens of thousands of objects, are not in it."""
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True)
    version, says = done.stdout.splitlines()
    enabled, frozen, functions = says.split()
    assert version
    assert enabled == "True"
    assert int(frozen) > 20_000
    assert int(functions) < 1_000
