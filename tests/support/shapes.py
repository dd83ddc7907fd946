"""Shapes of JSON: which fields there are, of which types, and what may be null or absent."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Null:
    """``null``, or this."""

    shape: Any


@dataclass(frozen=True)
class Absent:
    """Left out, or this."""

    shape: Any


@dataclass(frozen=True)
class Each:
    """An object whose keys are data, with values of one shape."""

    shape: Any


@dataclass(frozen=True)
class Open:
    """An object that has these fields, and may have others."""

    fields: dict[str, Any]


ANY = object()
NUMBER = (int, float)


def faults(value: object, shape: Any, at: str = "") -> list[str]:  # noqa: ANN401 - shapes
    """Where a value differs from its shape; empty if it does not."""
    where = at or "the whole"
    if shape is ANY:
        return []
    if isinstance(shape, Null | Absent):
        return [] if value is None and isinstance(shape, Null) else faults(value, shape.shape, at)
    if isinstance(shape, dict | Open | Each):
        if not isinstance(value, dict):
            return [f"{where} is {type(value).__name__}, not an object"]
        return _object(value, shape, at)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{where} is {type(value).__name__}, not a list"]
        return [f for i, each in enumerate(value) for f in faults(each, shape[0], f"{at}[{i}]")]
    wanted = shape if isinstance(shape, tuple) else (shape,)
    fits = isinstance(value, wanted) and (bool in wanted or not isinstance(value, bool))
    return [] if fits else [f"{where} is {value!r:.60}, not {shape}"]


def _object(value: dict[str, object], shape: dict[str, Any] | Open | Each, at: str) -> list[str]:
    if isinstance(shape, Each):
        return [f for key, each in value.items() for f in faults(each, shape.shape, f"{at}.{key}")]
    fields = shape.fields if isinstance(shape, Open) else shape
    found = []
    for name, each in fields.items():
        if name in value:
            found += faults(value[name], each, f"{at}.{name}")
        elif not isinstance(each, Absent):
            found.append(f"{at}.{name} is missing")
    if isinstance(shape, dict):
        found += [f"{at}.{name} is unknown" for name in value.keys() - fields.keys()]
    return found
