"""The program itself: its commands, their help, and what it loads."""

import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tailnet.cli.main import COMMANDS, cli


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    """And it exits with 0."""
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: cli {name}")


def test_other_spellings_of_help_and_version() -> None:
    """As in Go."""
    assert CliRunner().invoke(cli, ["help"]).stdout == CliRunner().invoke(cli, ["--help"]).stdout
    assert "Usage: cli up" in CliRunner().invoke(cli, ["help", "up"]).stdout
    unknown = CliRunner().invoke(cli, ["statsu"])
    assert (unknown.exit_code, "did you mean status?" in unknown.stderr) == (2, True)


def test_status_imports_little() -> None:
    """No asyncio, no TLS, no cryptography, no other command: that is what makes it quick."""
    code = (
        "import sys; import tailnet.cli.main as m\n"
        "m.cli.get_command(None, 'status')\n"
        "print(' '.join(sys.modules))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True, env={**os.environ})
    loaded = set(out.split())
    heavy = {"asyncio", "ssl", "cryptography", "h11", "http.client", "email", "ipaddress"}
    assert not heavy & loaded
    ours = {name for name in loaded if re.match(r"tailnet\.(agent|platform)\.", name)}
    shapes = {name for name in ours if name.startswith("tailnet.agent.localapi.schema")}
    assert ours - shapes <= {"tailnet.agent._version", "tailnet.agent.localapi"}
