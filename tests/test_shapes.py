"""The checker of shapes finds what it is for."""

import pytest
from tests.support.shapes import ANY, NUMBER, Absent, Each, Null, Open, faults

SHAPE = {"a": int, "b": Null([str]), "c": Absent({"d": NUMBER}), "e": Each(bool), "f": ANY}
GOOD: dict[str, object] = {"a": 1, "b": None, "e": {"x": True}, "f": []}


@pytest.mark.parametrize("change", [{}, {"b": ["x"]}, {"c": {"d": 1.5}}, {"e": {}}, {"f": None}])
def test_what_fits(change: dict[str, object]) -> None:
    """Null where it may be null, absent where it may be absent."""
    assert faults({**GOOD, **change}, SHAPE) == []


@pytest.mark.parametrize(
    "change",
    [
        {"a": True}, {"a": "1"}, {"a": None}, {"b": [1]}, {"b": {}}, {"c": None}, {"c": {}},
        {"c": {"d": 1, "x": 1}}, {"e": {"x": 1}}, {"e": []}, {"g": 1},
    ],
)  # fmt: skip
def test_what_does_not(change: dict[str, object]) -> None:
    """A wrong type, a field too many, null instead of absent."""
    assert len(faults({**GOOD, **change}, SHAPE)) == 1


def test_open_objects_may_have_more() -> None:
    """But not less."""
    assert faults({"a": 1, "b": 2}, Open({"a": int})) == []
    assert faults({"b": 2}, Open({"a": int})) == [".a is missing"]
