"""JSON for programs that a terminal can show, too."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tailnet.cli.jsontext import indented


@given(st.recursive(st.none() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)))
def test_any_value_is_the_same_and_visible(value: object) -> None:
    """Whatever a peer calls itself."""
    text = indented(value)
    assert json.loads(text) == value
    assert text.replace("\n", "").isprintable()


def test_what_is_visible_stays_as_it_is() -> None:
    """Names in any script."""
    assert indented({"a": "köln 東京"}) == '{\n  "a": "köln 東京"\n}'
    assert indented("\x9b\U000e0001") == r'"\u009b\udb40\udc01"'
