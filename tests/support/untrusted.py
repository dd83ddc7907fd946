"""Every function of the agent whose name ends in ``_untrusted``, as tests and fuzzing find them."""

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

AGENT = Path(__file__).parents[2] / "agent"
SOURCES = sorted((AGENT / "tailnet" / "agent").rglob("*.py"))


def functions(path: Path) -> Iterator[tuple[str, bool]]:
    """Names that end in ``_untrusted``, and whether they belong to a module itself."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_untrusted"):
            yield node.name, node in tree.body


def takes_bytes() -> Iterator[tuple[str, Callable[[bytes], object]]]:
    """Dotted name and function, of those at module level that need nothing but bytes."""
    for path in SOURCES:
        for name, is_module_level in functions(path):
            if not is_module_level:
                continue
            dotted = ".".join(path.relative_to(AGENT).with_suffix("").parts)
            function = getattr(importlib.import_module(dotted.removesuffix(".__init__")), name)
            parameters = list(inspect.signature(function).parameters.values())
            needed = [p for p in parameters if p.default is inspect.Parameter.empty]
            if len(needed) == 1 and parameters[0].annotation in (bytes, "bytes"):
                yield f"{dotted}.{name}", function
