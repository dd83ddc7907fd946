"""The program itself: its commands and their help."""

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
