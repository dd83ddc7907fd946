"""What ends a command early."""

import sys

import click

from tailnet.cli.text import clean_lines


class Failure(click.ClickException):
    """One clear message on stderr, exit status 1."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        """Print the message; what people typed may be in it."""
        click.echo(clean_lines(self.message), err=True)


class Silent(Failure):
    """Exit status 1; everything was said."""

    def __init__(self) -> None:
        super().__init__("")

    def show(self, file: object = None) -> None:
        """Print nothing."""


def warn(message: str) -> None:
    """A line on stderr that does not end anything."""
    click.echo(clean_lines(message), file=sys.stderr)
