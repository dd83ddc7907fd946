"""The program itself: its commands and their help."""

import pytest
from click.testing import CliRunner

from tailnet.cli.main import COMMANDS, cli, main


def test_what_is_no_number_is_said_to_be_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Of which type it is to be in the program is of no interest."""
    with pytest.raises(SystemExit):
        main(["nc", "box", "http"])
    assert capsys.readouterr().err == (
        "Invalid value for 'PORT': 'http' is not a number. (see tnet nc --help)\n"
    )


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


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["configure", "synology"], 1, "tnet configure synology does not apply here: it is for"),
        (["configure", "nonsense"], 2, "'nonsense' is not one of"),
        (["serve", "3000"], 2, "there is no tnet serve: serving is not supported yet"),
        (["ssh", "box"], 2, "ssh -o ProxyCommand='tnet nc %h %p'"),
        (["status", "--web"], 2, "there is no --web here: the page is served by: tnet web"),
    ],
)
def test_what_upstream_has_besides_is_answered_in_words(
    args: list[str], code: int, says: str
) -> None:
    """With what there is instead."""
    result = CliRunner().invoke(cli, args)
    assert (result.exit_code, says in result.stderr) == (code, True), result.stderr


@pytest.mark.parametrize(
    ("words", "choice"), [(["configure"], "synology-cert"), (["completion"], "zsh")]
)
@pytest.mark.parametrize("wrong", [[], ["nonsense"]])
def test_choices_are_named_once(
    words: list[str], choice: str, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether nothing was chosen or something else."""
    with pytest.raises(SystemExit) as ended:
        main([*words, *wrong])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count(choice) == 1, said
    assert said.endswith(f"(see tnet {words[0]} --help)\n")


@pytest.mark.parametrize("words", [[], ["debug"], ["dns", "record"]])
def test_a_group_alone_shows_what_there_is(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As lines, and exit code 2: nothing was done."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == " ".join(["Usage: tnet", *words, "[OPTIONS] COMMAND [ARGS]..."])
    assert "Commands:" in lines
