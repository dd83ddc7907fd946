"""Durations, tables and terminal escapes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.cli.text import clean, format_latency, parse_duration, table


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("5s", 5),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("2h45m0.5s", 9900.5),
        ("3µs", 3e-6),
    ],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    """As time.ParseDuration reads them."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-1s", "1s ", "1d", "1s2", "٣s", "1e3s", "9" * 30 + "h"]
)
def test_other_durations_are_refused(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(ValueError, match="write it like 5s"):
        parse_duration(text)


@given(st.text())
def test_only_value_error_escapes(text: str) -> None:
    """From any text."""
    with suppress(ValueError):
        assert parse_duration(text) >= 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.000421, "420µs"), (0.0012, "1ms"), (0.0348, "35ms"), (1.0, "1s"), (1.25, "1.25s")],
)
def test_latencies_are_rounded(seconds: float, text: str) -> None:
    """Whole milliseconds, or microseconds below."""
    assert format_latency(seconds) == text


@given(st.text())
def test_clean_text_cannot_move_the_cursor(text: str) -> None:
    """No control character survives, and no direction override."""
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2066" for c in clean(text))


def test_escapes_are_stripped() -> None:
    """What is printable stays."""
    assert clean("a\x1b[31mb\r\nc\u202ed ü") == "a[31mbcd ü"


def test_tables_are_aligned() -> None:
    """Two spaces between columns, none at the end; no rows are no lines."""
    assert table([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]
    assert table([]) == []
