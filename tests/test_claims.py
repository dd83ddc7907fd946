"""Tests that the documentation names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *sorted((ROOT / "docs" / "protocol").glob("*.md")),
    ROOT / "docs" / "datapath.md",
    ROOT / "docs" / "platform.md",
    ROOT / "docs" / "testing.md",
]
TESTS = {
    name
    for tree in ("tests", "integration")
    for file in (ROOT / tree).rglob("*.py")  # contracts too
    for name in re.findall(r"^ *(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
}
CRATE = ROOT / "agent" / "native"


def native_tests() -> set[str]:
    """The crate's tests by their paths."""
    found = set()
    for tree in (CRATE / "src", CRATE / "tests"):
        found |= claims_of(tree)
    return found


def claims_of(tree: Path) -> set[str]:
    """Those below a folder, as from there."""
    found = set()
    for file in tree.rglob("*.rs"):
        module = file.relative_to(tree).with_suffix("").parts
        path = "::".join(module[:-1] if module[-1] in {"mod", "main"} else module)
        names = re.findall(r"#\[test\]\s+fn (\w+)", file.read_text())
        found |= {f"{path}::{name}" for name in names}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_is_named_exists(page: Path) -> None:
    """So that a claim goes when its test goes."""
    text = page.read_text()
    assert set(re.findall(r"`(test_\w+)`", text)) <= TESTS
    assert set(re.findall(r"`(\w+(?:::\w+)+)`", text)) <= native_tests()
