"""From click's context to a client."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import click

from tailnet.cli.client import LocalClient, find_socket


def with_client(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call ``function`` with a :class:`LocalClient` first."""

    @click.pass_context
    def wrapper(ctx: click.Context, /, *args: object, **kwargs: object) -> object:
        return ctx.invoke(function, LocalClient(ctx.obj or find_socket()), *args, **kwargs)

    return update_wrapper(wrapper, function)
