"""Every function whose name ends in ``_untrusted`` lets out nothing but ``BadPacket``."""

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.errors import BadPacket

TESTS = Path(__file__).parents[1]
AGENT = TESTS.parent / "agent"
SOURCES = sorted((AGENT / "tailnet" / "agent").rglob("*.py"))


def _functions(path: Path) -> Iterator[tuple[str, bool]]:
    """Names that end in ``_untrusted``, and whether they belong to a module itself."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_untrusted"):
            yield node.name, node in tree.body


def _module_level() -> Iterator[object]:
    for path in SOURCES:
        for name, is_module_level in _functions(path):
            if not is_module_level:
                continue
            dotted = ".".join(path.relative_to(AGENT).with_suffix("").parts)
            function = getattr(importlib.import_module(dotted.removesuffix(".__init__")), name)
            parameters = list(inspect.signature(function).parameters.values())
            needed = [p for p in parameters if p.default is inspect.Parameter.empty]
            if len(needed) == 1 and parameters[0].annotation in (bytes, "bytes"):
                yield pytest.param(function, id=f"{dotted}.{name}")


METHODS = sorted(
    {
        name.lstrip("_")
        for path in SOURCES
        for name, is_module_level in _functions(path)
        if not is_module_level and not name.startswith("_")
    }
)


@pytest.mark.parametrize("function", list(_module_level()))
@given(data=st.one_of(st.binary(max_size=64), st.binary(max_size=2000)))
def test_only_bad_packet_escapes(function: Callable[[bytes], object], data: bytes) -> None:
    """Whatever the bytes are."""
    try:
        function(data)
    except BadPacket:
        pass


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_fuzzed_in_their_rooms(name: str) -> None:
    """A method's name appears in some test."""
    here = Path(__file__)
    assert any(name in path.read_text() for path in TESTS.rglob("test_*.py") if path != here)
