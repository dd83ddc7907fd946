"""The documentation names what there is: flags, routes, counters, files and make targets."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tailnet.agent.backend.warnables import TABLE
from tailnet.agent.datapath.reference import drops
from tailnet.agent.localapi.routes import ROUTES
from tailnet.agent.main import command as daemon
from tailnet.cli.main import cli

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def section(title: str) -> str:
    """The text below a heading, down to the next of its depth or higher."""
    start = re.search(rf"^(#+) {re.escape(title)}$", REFERENCE, re.MULTILINE)
    assert start is not None, f"docs/reference.md has no section {title!r}"
    depth = len(start[1])
    rest = REFERENCE[start.end() :]
    end = re.search(rf"^#{{1,{depth}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def flags(of: click.Command) -> Iterator[str]:
    """Every spelling of every option of its own, hidden ones included."""
    for parameter in of.params:
        if isinstance(parameter, click.Option):
            yield from parameter.opts


def missing(names: Iterator[str], text: str) -> list[str]:
    """Names that do not stand in backticks, alone or with a value."""
    return [name for name in names if not re.search(rf"`{re.escape(name)}[`\[ =]", text)]


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_flag_of_the_daemon_is_in_the_reference() -> None:
    """With the version and help flags that click adds."""
    assert missing(flags(daemon), section("tailnetd")) == []


def test_every_flag_before_the_command_is_in_the_reference() -> None:
    """There are few."""
    assert missing(flags(cli), section("tnet")) == []


def test_every_health_condition_has_its_tests() -> None:
    """A row with names, which ``test_claims.py`` looks up."""
    rows = (ROOT / "docs" / "testing.md").read_text().splitlines()
    tested = {
        code
        for row in rows
        if row.startswith("| `") and "`test_" in row
        for code in re.findall(r"`([a-z0-9-]+)`", row.split("|")[1])
    }
    assert tested == {what.code for what in TABLE}


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_every_command_is_in_the_reference_with_its_flags(name: str) -> None:
    """Each in a section of its own."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert missing(flags(command), section(f"tnet {name}")) == []


def test_every_route_is_in_the_reference_with_its_permission() -> None:
    """And none that does not exist."""
    rows = set(re.findall(r"^\| `([A-Z]+ \S+)` \| (\w+) \|", section("LocalAPI"), re.MULTILINE))
    assert rows == {
        (f"{method} {name}", route.needs.name.lower())
        for name, methods in ROUTES.items()
        for method, route in methods.items()
    }


def test_every_drop_counter_is_in_the_reference() -> None:
    """By its exact name."""
    assert missing(iter(drops.NAMES), section("Drop counters")) == []


def test_every_health_warning_is_in_the_reference() -> None:
    """By its code."""
    assert missing((what.code for what in TABLE), section("Health messages")) == []


def test_every_file_and_room_that_the_map_of_the_house_names_is_there() -> None:
    """By its whole path, or by as much of its end as the sentence needs."""
    there = {
        f"/{path.relative_to(ROOT)}"
        for top in ("agent", "platform", "cli", "tests", "integration", "systemd", "pyproject.toml")
        for path in (ROOT / top, *(ROOT / top).rglob("*"))
        if "target" not in path.parts
    }
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|rs|toml|json)|[\w/]+/)`", text))
    named -= {"tailnet/", "docs/openapi.json"}
    assert len(named) > 60
    ends = [f"/{name.rstrip('/')}" for name in sorted(named)]
    assert [end for end in ends if not any(path.endswith(end) for path in there)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    """To a file, and to a heading where one is named."""
    for link in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} does not exist"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def test_every_page_is_in_the_sites_contents() -> None:
    """By its name, or by its folder."""
    index = (ROOT / "docs" / "index.md").read_text()
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = page.relative_to(ROOT / "docs").with_suffix("").as_posix()
        if name == "index" or name.startswith(("changes/", "_build/")):
            continue
        assert {name, f"{name.rpartition('/')[0]}/*"} & set(index.split()), name


def test_make_targets_in_the_readme_exist() -> None:
    """A command that is shown can be typed."""
    defined = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"(?:^[$#] |`)make (?:[A-Z]+=\S+ )?([a-z-]+)", readme, re.MULTILINE)
    assert "lab" in shown
    assert set(shown) <= set(defined)
