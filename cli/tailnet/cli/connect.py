"""From click's context to a client."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import click

from tailnet.cli.client import LocalClient
from tailnet.cli.errors import Failure
from tailnet.client.errors import ClientError


def with_client(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call ``function`` with a :class:`LocalClient` first; what it cannot do is a failure."""

    @click.pass_context
    def wrapper(ctx: click.Context, /, *args: object, **kwargs: object) -> object:
        try:
            return ctx.invoke(function, LocalClient(ctx.obj), *args, **kwargs)
        except ClientError as error:
            raise Failure(str(error)) from None

    return update_wrapper(wrapper, function)
