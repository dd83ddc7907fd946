"""Tests that the documentation names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "protocol").glob("*.md"))
TESTS = {
    name
    for tree in ("tests", "integration")
    for file in (ROOT / tree).rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_exists(page: Path) -> None:
    """So that a claim goes when its test goes."""
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    assert named <= TESTS
