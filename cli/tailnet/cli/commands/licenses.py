"""``tnet licenses``: whose work this is made of."""

from collections.abc import Iterator
from importlib import metadata

import click

from tailnet.cli.flags import GoCommand
from tailnet.cli.text import clean

OURS = "tailnet"
OPTIONAL = ("tailnet-native",)


@click.command(cls=GoCommand, help="Show the licenses of what tailnetd is made of.")
def command() -> None:
    """A line for each package that is installed here because of us."""
    rows = sorted(packages())
    width = max(len(f"{name} {version}") for name, version, _ in rows)
    for name, version, license_ in rows:
        click.echo(f"{f'{name} {version}':{width}}  {license_}")


def packages() -> Iterator[tuple[str, str, str]]:
    """Name, version and license of ours, and of everything it needs."""
    waiting, seen = [OURS, *OPTIONAL], set[str]()
    while waiting:
        name = waiting.pop()
        if name.lower().replace("_", "-") in seen:
            continue
        seen.add(name.lower().replace("_", "-"))
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another system, or not wanted
            continue
        about = package.metadata
        yield about["Name"], about["Version"], _license(about)
        waiting.extend(_name(need) for need in package.requires or () if "extra ==" not in need)


def _license(about: metadata.PackageMetadata) -> str:
    """The expression, else the classifiers, else the first line of a free text."""
    said = about.get_all("License-Expression") or [
        each.rpartition(" :: ")[2]
        for each in about.get_all("Classifier") or ()
        if each.startswith("License ::")
    ]
    free = (about.get_all("License") or [""])[0].splitlines()
    return clean(", ".join(said) or (free[0] if free else "") or "not said")


def _name(requirement: str) -> str:
    end = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), None)
    return requirement[:end]
