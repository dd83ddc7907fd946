"""House rules no linter can express: see docs/adr/0001-layout.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [p for room in ("agent", "platform", "cli") for p in (ROOT / room).rglob("*.py")]
CRATE = ROOT / "agent" / "native" / "src"
CWDS = [ROOT, *(p for p in ROOT.rglob("*") if p.is_dir() and p.name in {"platform", "tailnet"})]


def test_namespace_folders_have_no_init() -> None:
    """``tailnet`` spans three roots, and no folder called ``platform`` may be a regular package."""
    bad = [*ROOT.glob("*/__init__.py"), *ROOT.glob("*/tailnet/__init__.py")]
    bad += [p for p in ROOT.rglob("platform/__init__.py") if ".venv" not in p.parts]
    bad += [*ROOT.glob("*.py"), *ROOT.glob("*/conftest.py")]
    assert set(bad) <= {ROOT / "tests" / "conftest.py", ROOT / "integration" / "conftest.py"}


def test_no_module_is_named_after_the_standard_library() -> None:
    """A file run from its own folder must still find the standard library."""
    assert [p for p in SOURCES if p.stem in sys.stdlib_module_names and p.stem != "__init__"] == []


def test_no_tests_are_in_the_source_roots() -> None:
    """They mirror the rooms from outside."""
    assert [p for p in SOURCES if p.name.startswith("test_") or "tests" in p.parts] == []


@pytest.mark.parametrize("cwd", CWDS, ids=lambda p: str(p.relative_to(ROOT)))
def test_import_platform_is_the_standard_library(cwd: Path) -> None:
    """From any working directory."""
    code = "import os, platform; print(platform.__file__.startswith(os.path.dirname(os.__file__)))"
    out = subprocess.check_output([sys.executable, "-c", code], cwd=cwd, text=True)
    assert out.strip() == "True"


def test_no_module_is_longer_than_400_lines() -> None:
    """One concern a file; who must scroll has lost the thread."""
    parts = (CRATE, CRATE.parent / "tests", CRATE.parent / "examples")
    crate = [file for part in parts for file in part.rglob("*.rs")]
    files = [*SOURCES, *crate]
    assert [p for p in files if len(p.read_text(encoding="utf-8").splitlines()) > 400] == []


def test_unsafe_code_is_in_the_module_of_system_calls_only() -> None:
    """The crate denies it; one file lifts that, and the linter wants a reason before each block."""
    rules = (CRATE.parent / "Cargo.toml").read_text(encoding="utf-8")
    assert 'unsafe_code = "deny"' in rules
    assert 'undocumented_unsafe_blocks = "deny"' in rules
    words = re.compile(r"unsafe (\{|fn|impl|extern)|unsafe_code")
    found = [p for p in CRATE.rglob("*.rs") if words.search(p.read_text(encoding="utf-8"))]
    assert CRATE / "sys" / "mod.rs" in found
    assert [p for p in found if CRATE / "sys" not in p.parents] == []
