"""JSON with comments is JSON without them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.backend.hujson import standardize
from tailnet.agent.errors import UserError

TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
GAPS = st.sampled_from(["", " ", "\n", '// note, "quoted" ]\n', "/* , */", "/**/", "/* a\nb */"])


def render(tree: Any, draw: st.DrawFn) -> str:  # noqa: ANN401 - any JSON
    """``tree`` with comments and trailing commas wherever they may be."""
    gap = draw(GAPS)
    match tree:
        case dict():
            items = [f"{json.dumps(k)}{draw(GAPS)}:{render(v, draw)}" for k, v in tree.items()]
        case list():
            items = [render(item, draw) for item in tree]
        case _:
            return gap + json.dumps(tree) + draw(GAPS)
    tail = draw(st.sampled_from(["", ","])) if items else ""
    left, right = "{}" if isinstance(tree, dict) else "[]"
    return f"{gap}{left}{(draw(GAPS) + ',').join(items)}{tail}{draw(GAPS)}{right}{draw(GAPS)}"


@st.composite
def documents(draw: st.DrawFn) -> tuple[Any, str]:
    """A tree and its text."""
    tree = draw(TREES)
    return tree, render(tree, draw)


@given(documents())
def test_comments_and_trailing_commas_do_not_change_the_meaning(what: tuple[Any, str]) -> None:
    """Wherever they are; and every byte stays where it was."""
    tree, text = what
    plain = standardize(text.encode())
    assert json.loads(plain) == tree
    assert len(plain) == len(text.encode())


@given(TREES)
def test_plain_json_stays_as_it_is(tree: Any) -> None:  # noqa: ANN401 - any JSON
    """To the byte: strings with slashes and commas too."""
    data = json.dumps(tree, ensure_ascii=False).encode()
    assert standardize(data) == data


@given(st.binary() | st.text(alphabet='{}[],"/*\\ \n:a1').map(str.encode))
def test_anything_is_accepted_or_refused(data: bytes) -> None:
    """And never made longer."""
    try:
        assert len(standardize(data)) == len(data)
    except UserError:
        assert b"/*" in data


@pytest.mark.parametrize("text", ["{,}", "[,]", "[1,,]", '{"a":,}', ",", "[1 2,]"])
def test_a_comma_that_ends_nothing_stays_wrong(text: str) -> None:
    """The JSON parser will say so."""
    with pytest.raises(json.JSONDecodeError):
        json.loads(standardize(text.encode()))


def test_a_comment_without_an_end_is_refused() -> None:
    """But not the signs of one within a string."""
    with pytest.raises(UserError, match="no end"):
        standardize(b'{"a": 1} /* and')
    assert json.loads(standardize(b'{"a": "/* //", // "\n}')) == {"a": "/* //"}
