"""docs/protocol/constants.md says what the code has."""

import importlib
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "protocol" / "constants.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| upstream |"))
]
HERE = [row for row in ROWS if "`" in row[2]]


def flat(value: object) -> list[float]:
    """Its numbers."""
    if isinstance(value, Iterable):
        return [each for part in sorted(value) for each in flat(part)]
    assert isinstance(value, int | float)
    return [value]


def as_told(value: float, text: str) -> str:
    """With as many digits after the point."""
    return (
        f"{value:.{len(text.partition('.')[2])}f}"
        if "." in text
        else str(int(value) if value == int(value) else value)
    )


@pytest.mark.parametrize("row", HERE, ids=[row[2] for row in HERE])
def test_a_constant_is_what_its_row_says(row: list[str]) -> None:
    """Symbols of tailnet.agent, and their numbers in order."""
    found: list[float] = []
    for symbol in re.findall(r"`([\w.]+)`", row[2]):
        module, _, name = symbol.rpartition(".")
        found += flat(getattr(importlib.import_module(f"tailnet.agent.{module}"), name))
    told = re.findall(r"[\d.]+", row[3])
    assert [as_told(*pair) for pair in zip(found, told, strict=True)] == told


def test_what_differs_says_why() -> None:
    """Five cells a row, and the last one not empty where upstream has nothing or another number."""
    assert len(HERE) > 90
    for row in ROWS:
        assert len(row) == 5, row
        numbers = re.findall(r"\d[\d.]*", row[1])
        if not numbers or row[2] == "–":
            assert row[4], row
