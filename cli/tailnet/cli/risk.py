"""What would cut off the very session that asks for it is asked back first.

Source: tailscale cmd/tailscale/cli/risks.go.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from tailnet.cli.errors import Failure, warn

F = TypeVar("F", bound=Callable[..., Any])

LOSE_SSH = "lose-ssh"
RISKS = (LOSE_SSH, "mac-app-connector", "all")  # the second one exists on macOS alone


class RiskList(click.ParamType[frozenset[str]]):
    """Risks with commas between them."""

    name = "risks"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[str]:
        """Parse."""
        if isinstance(value, frozenset):
            return value
        words = frozenset(word for part in str(value).split(",") if (word := part.strip()))
        if unknown := sorted(words - {*RISKS}):
            self.fail(f"unknown risk {unknown[0]!r}; there are {', '.join(RISKS)}", param, ctx)
        return words


def accept_risk(function: F) -> F:
    """Add the flag to a command."""
    return click.option(
        "--accept-risk",
        type=RiskList(),
        default="",
        metavar="RISKS",
        help=f"Do it without asking back ({LOSE_SSH} or all).",
    )(function)


def over_tailnet() -> bool:
    """Whether whoever types this came through the tailnet, by any kind of SSH."""
    client = os.environ.get("SSH_CLIENT", "").partition(" ")[0].lower()
    if client.startswith("fd7a:115c:a1e0:"):
        return True
    first, _, rest = client.partition(".")
    second = rest.partition(".")[0]
    return first == "100" and second.isdecimal() and 64 <= int(second) < 128


def ask(accepted: frozenset[str], text: str) -> None:
    """Go on only if the session survives it, or its user wants it so.

    Raises:
        Failure: nobody said yes.
    """
    if not over_tailnet() or accepted & {LOSE_SSH, "all"}:
        return
    warn(f"This session came through the tailnet; {text}.")
    if not sys.stdin.isatty():
        msg = f"aborted, no changes made; to do it all the same: --accept-risk={LOSE_SSH}"
        raise Failure(msg)
    if not click.confirm("Continue?", default=False, err=True):
        msg = "aborted, no changes made"
        raise Failure(msg)
