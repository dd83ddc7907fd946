"""``tnet`` of an older and of a newer version at a real daemon."""

import json
import subprocess
import sys

import pytest
from integration.lab.host import Host
from integration.lab.lab import Lab

from tailnet.agent.localapi.schema.basics import VERSION

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

# The program itself, which believes to be of another version.
PROGRAM = """
import sys
from tailnet.agent import _version
_version.__version__ = sys.argv.pop(1)
from tailnet.cli.start import main
main()
"""
OTHERS = {"0.0.9": "update tnet", "99.1": "restart tailnetd"}
COMMANDS = {
    ("status",): 0,
    ("status", "--json"): 0,
    ("ip", "h2"): 0,
    ("ping", "-c", "1", "--until-direct=false", "h2"): 0,
    ("set", "--nickname=other"): 0,
    ("debug", "watch-ipn", "--count=1", "--initial"): 0,
    ("up", "--hostname=h1"): 1,  # a setting would be lost: as with the same version
    ("whois", "192.0.2.1"): 1,
}


def run(host: Host, version: str, *args: str) -> subprocess.CompletedProcess[str]:
    """``tnet`` of that version."""
    command = (sys.executable, "-c", PROGRAM, version, f"--socket={host.socket}", *args)
    return host.exec(*command, check=False)


@pytest.mark.parametrize("version", OTHERS)
@pytest.mark.parametrize("args", COMMANDS)
def test_another_version_works_and_says_once_what_to_do(
    pair: Lab, version: str, args: tuple[str, ...]
) -> None:
    """A line on stderr before anything else; the output is that of the same version."""
    done = run(pair.hosts["h1"], version, *args)
    assert done.returncode == COMMANDS[args], done
    words = f"tailnetd is {VERSION} and tnet {version}; {OTHERS[version]} to make them one"
    assert done.stderr.startswith(f"Warning: {words}\n")
    assert done.stderr.count("Warning: tailnetd is") == 1
    if args[-1:] == ("--json",):
        assert json.loads(done.stdout)["BackendState"] == "Running"


def test_the_same_version_says_nothing(pair: Lab) -> None:
    """So that the line above means something."""
    assert run(pair.hosts["h1"], VERSION, "ip").stderr == ""
