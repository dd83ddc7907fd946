"""What a command loads is its budget: modules are counted, not milliseconds."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import RUNNING

from tailnet.cli.main import COMMANDS

RUN = """
import atexit, sys
before = set(sys.modules)
atexit.register(lambda: print(*sorted(set(sys.modules) - before), file=sys.stderr))
from tailnet.cli.main import main
main()
"""
HEAVY = frozenset(
    """
    asyncio cryptography difflib dnslib email h11 html http http.server importlib.metadata
    ipaddress json logging pathlib random rich segno socketserver ssl subprocess tempfile urllib
    """.split()  # noqa: SIM905 - one name a word reads better
)
SERVICES = {"ipaddress", "pathlib", "random", "subprocess", "tempfile", "urllib"}
METADATA = {"email", "importlib.metadata", "ipaddress", "pathlib", "random", "tempfile", "urllib"}
ALLOWED = {
    "dns": {"ipaddress"},
    "install": SERVICES,
    "licenses": METADATA,  # all that it does is read that
    "uninstall": SERVICES,
}
THIRD = {"click", "msgspec"}  # not typing_extensions, although msgspec asks for it
FRAME = {"cli", "cli.flags", "cli.main", "cli.terminal", "cli.text"}
TALK = {
    "agent", "agent._version", "agent.localapi",
    "cli.client", "cli.commands", "cli.connect", "cli.errors",
    "client", "client.errors", "client.questions", "client.sync", "client.trouble",
    "client.wire",
}  # fmt: skip
SHAPES = "tailnet.agent.localapi.schema"  # types, without anything that they would load
OURS = {
    "--help": FRAME,
    "status": {*FRAME, *TALK, "cli.commands.status", "cli.jsontext", "cli.terminal"},
    "ip": {*FRAME, *TALK, "cli.commands.ip", "cli.completing", "cli.peers"},
}


def loaded(*args: str) -> set[str]:
    """The modules that a real run of ``tnet`` imports."""
    command = [sys.executable, "-c", RUN, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_loads_what_is_heavy_before_it_does_anything(name: str) -> None:
    """Its help, that is."""
    assert loaded(name, "--help") & HEAVY <= ALLOWED.get(name, set())


@pytest.mark.parametrize("name", OURS)
def test_the_commonest_commands_load_no_module_more_than_they_need(
    name: str, tmp_path: Path
) -> None:
    """A whole run, with a daemon that answers; a name more here is a decision."""
    with served(FakeBackend(about=RUNNING), tmp_path / "s"):
        found = loaded("--socket", str(tmp_path / "s"), name)
    assert found & HEAVY == set()
    ours = {m for m in found if m.startswith("tailnet.") and not m.startswith(SHAPES)}
    assert ours == {f"tailnet.{m}" for m in OURS[name]}
    top = {m.partition(".")[0] for m in found} - {*sys.stdlib_module_names, "tailnet"}
    assert {m for m in top if not m.startswith("_")} <= THIRD
