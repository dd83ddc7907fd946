"""Go's flag grammar."""

from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tailnet.cli.flags import DURATION, GoCommand, flag


@click.command(cls=GoCommand)
@flag("accept-routes", help="")
@flag("no-fuss", help="")
@click.option("--auth-key", default="")
@click.option("--timeout", type=DURATION, default=0.0)
@click.option("-c", "count", type=int, default=10)
@click.option("-4", "only4", is_flag=True)
@click.argument("words", nargs=-1)
@click.pass_context
def command(ctx: click.Context, /, **values: object) -> None:
    """Print what was understood."""
    click.echo(repr(values | {"given": ctx.meta["given"]}))


def run(*args: str) -> tuple[int, str]:
    """Exit status and output."""
    result = CliRunner().invoke(command, list(args))
    return result.exit_code, result.output


def understood(*args: str) -> dict[str, Any]:
    """The values."""
    status, output = run(*args)
    assert status == 0, output
    values: dict[str, Any] = eval(output)
    return values


@pytest.mark.parametrize(
    ("args", "want"),
    [
        (["--accept-routes"], True),
        (["-accept-routes"], True),
        (["--accept-routes=true"], True),
        (["--accept-routes=T"], True),
        (["--accept-routes=false"], False),
        (["--accept-routes=0"], False),
        (["--no-accept-routes"], False),
        ([], False),
    ],
)
def test_booleans(args: list[str], want: bool) -> None:
    """All spellings; a value never comes from the next argument."""
    assert understood(*args, "word")["words"] == ("word",)
    assert understood(*args)["accept_routes"] is want


def test_values_may_follow_or_be_joined() -> None:
    """Also those that begin with a dash."""
    for args in (["--auth-key", "-k"], ["--auth-key=-k"], ["-auth-key=-k"], ["--authkey", "-k"]):
        assert understood(*args)["auth_key"] == "-k"
    assert understood("-c", "3")["count"] == understood("-c=3")["count"] == 3
    assert understood("-4")["only4"] is True
    assert understood("-4=false")["only4"] is False
    assert understood("--timeout", "1m30s")["timeout"] == 90.0


def test_arguments_may_come_anywhere() -> None:
    """And after two dashes everything is one."""
    values = understood("a", "-c", "3", "b", "--", "-4", "--nonsense")
    assert values["words"] == ("a", "b", "-4", "--nonsense")
    assert values["only4"] is False


def test_a_flag_whose_name_begins_with_no() -> None:
    """Is not the negation of another."""
    assert understood("--no-fuss")["no_fuss"] is True
    assert understood("--no-no-fuss")["no_fuss"] is False


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--accept-route"], "did you mean --accept-routes?"),
        (["--accept-routes", "--accept-routes=false"], "flag provided multiple times"),
        (["--authkey=a", "--auth-key=b"], "flag provided multiple times: --auth-key"),
        (["--auth-key"], "flag needs a value"),
        (["--accept-routes=maybe"], "neither true nor false"),
        (["-4=maybe"], "neither true nor false"),
        (["--no-accept-routes=true"], "takes no value"),
        (["--no-auth-key"], "unknown flag"),
        (["--timeout=5"], "write it like 5s"),
        (["--posture-checking=x"], "--posture-checking is not supported yet"),
        (["--no-ssh"], "not supported yet"),
        (["-c", "x"], "not a valid integer"),
    ],
)
def test_usage_errors_exit_with_two(args: list[str], says: str) -> None:
    """And say what is wrong."""
    status, output = run(*args)
    assert (status, says in output) == (2, True), output


@given(st.lists(st.text(max_size=12), max_size=5))
def test_any_arguments_are_understood_or_refused(args: list[str]) -> None:
    """Nothing else happens."""
    result = CliRunner().invoke(command, args)
    assert result.exit_code in (0, 2), result.exception
