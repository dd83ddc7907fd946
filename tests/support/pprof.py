"""Reads profiles, as far as tests want to know: a reader that shares nothing with the writer."""

import gzip
from collections.abc import Iterator
from typing import NamedTuple


class Profile(NamedTuple):
    """Kinds of values, values by the names of a stack (innermost first), and the period."""

    kinds: list[tuple[str, str]]
    samples: dict[tuple[str, ...], list[int]]
    period: int


def read_profile(data: bytes) -> Profile:
    """Everything of it."""
    fields = list(_fields(gzip.decompress(data)))
    names = [bytes(value).decode() for number, value in fields if number == 6]
    functions = {f[1]: names[f[2]] for f in map(_numbers, _all(fields, 5))}
    places: dict[int, str] = {}
    for raw in _all(fields, 4):
        (inside,) = _all(list(_fields(raw)), 4)
        line = _numbers(inside)
        places[_numbers(raw)[1]] = f"{functions[line[1]]}:{line.get(2, 0)}"
    samples = {}
    for raw in _all(fields, 2):
        where, values = (b"".join(_all(list(_fields(raw)), number)) for number in (1, 2))
        samples[tuple(places[each] for each in _packed(where))] = list(_packed(values))
    kinds = [(names[k[1]], names[k[2]]) for k in map(_numbers, _all(fields, 1))]
    period = next((int(v) for number, v in fields if number == 12), 0)
    return Profile(kinds, samples, period)


def _all(fields: list[tuple[int, int | bytes]], number: int) -> Iterator[bytes]:
    return (value for n, value in fields if n == number and isinstance(value, bytes))


def _numbers(data: bytes) -> dict[int, int]:
    return {number: value for number, value in _fields(data) if isinstance(value, int)}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        if tag & 7 == 0:
            yield tag >> 3, value
        else:
            assert tag & 7 == 2
            yield tag >> 3, data[at : at + value]
            at += value


def _packed(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
