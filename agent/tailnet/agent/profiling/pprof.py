"""Profiles as pprof, speedscope and others read them.

A profile is a Protocol Buffers message, compressed by gzip::

    1 sample_type*  {1 type, 2 unit}          what the values of a sample are
    2 sample*       {1 location id*, 2 value*}      innermost location first
    4 location*     {1 id, 4 line {1 function id, 2 line number}}
    5 function*     {1 id, 2 name, 3 system name, 4 file name}
    6 string_table* text                      all names are indices into it; the first is ""
    9 time_nanos, 10 duration_nanos, 11 period_type {1 type, 2 unit}, 12 period

Source: google/pprof proto/profile.proto; Protocol Buffers, Encoding.
"""

import gzip
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

_VARINT, _BYTES = 0, 2  # wire types


class Place(NamedTuple):
    """A line of a function."""

    function: str
    file: str
    line: int


Stack = tuple[Place, ...]
"""Innermost first."""


class Kind(NamedTuple):
    """What a value is, as in ``cpu``, ``nanoseconds``."""

    name: str
    unit: str


def encode(
    kinds: Sequence[Kind],
    samples: Mapping[Stack, Sequence[int]],
    *,
    begun: int,
    took: int,
    period: tuple[Kind, int] | None = None,
) -> bytes:
    """A compressed profile.

    Args:
        kinds: of the values.
        samples: values by stack, one of each kind.
        begun: wall time [ns since 1970].
        took: [ns].
        period: what lies between two samples.
    """
    names: dict[str, int] = {"": 0}
    places: dict[Place, int] = {}
    functions: dict[tuple[str, str], int] = {}
    out = [_message(1, _kind(kind, names)) for kind in kinds]
    for stack, values in samples.items():
        where = _packed(1, [_id(places, place) + 1 for place in stack])
        out.append(_message(2, where + _packed(2, values)))
    for place, number in places.items():
        function = _id(functions, (place.function, place.file)) + 1
        line = _message(4, _number(1, function) + _number(2, place.line))
        out.append(_message(4, _number(1, number + 1) + line))
    for (name, file), number in functions.items():
        about = _number(1, number + 1) + _number(2, _id(names, name)) + _number(3, names[name])
        out.append(_message(5, about + _number(4, _id(names, file))))
    out.append(_number(9, begun) + _number(10, took))
    if period is not None:
        out.append(_message(11, _kind(period[0], names)) + _number(12, period[1]))
    out += [_message(6, name.encode()) for name in names]
    return gzip.compress(b"".join(out), mtime=0)


T = TypeVar("T")


def _id(table: dict[T, int], item: T) -> int:
    """Its number in a table that grows."""
    return table.setdefault(item, len(table))


def _kind(kind: Kind, names: dict[str, int]) -> bytes:
    return _number(1, _id(names, kind.name)) + _number(2, _id(names, kind.unit))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(body)) + body


def _packed(field: int, values: Sequence[int]) -> bytes:
    return _message(field, b"".join(map(_varint, values)))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
