"""Durations, tables and terminal escapes."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.cli.text import clean, format_fine, format_latency, parse_duration, table, width


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
    [
        (0.000421, "420µs"),
        (0.0009949, "990µs"),
        (0.000995, "1ms"),
        (0.0012, "1ms"),
        (0.0348, "35ms"),
        (0.9994, "999ms"),
        (0.9996, "1s"),
        (1.0, "1s"),
        (1.25, "1.25s"),
    ],
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


WORD = st.text("abcdefgh.:-é東", min_size=1, max_size=18)
ROWS = st.integers(2, 5).flatmap(
    lambda n: st.lists(
        st.lists(st.lists(WORD, min_size=1, max_size=6).map(" ".join), min_size=n, max_size=n),
        min_size=1,
        max_size=6,
    )
)


@given(rows=ROWS, room=st.integers(100, 160))
def test_a_table_fits_its_terminal_and_loses_nothing_of_the_last_column(
    rows: list[list[str]], room: int
) -> None:
    """Five columns of twelve, and words that are not longer than a line."""
    lines = table(rows, room)
    assert max(map(width, lines)) <= room
    shown = [word for line in lines for word in line.split()]
    for row in rows:
        for word in row[-1].split():
            assert word in shown
            shown.remove(word)


def test_a_wide_character_is_two_columns_and_a_mark_none() -> None:
    """So that what follows is below its header."""
    assert table([("NAME", "IP"), ("東京", "1"), ("e\u0301", "2")]) == [
        "NAME  IP",
        "東京  1",
        "e\u0301     2",
    ]


def test_cells_are_cut_before_the_last_one_is_broken_too_small() -> None:
    """The widest first; twelve columns stay."""
    row = ("100.64.0.2", "a-very-long-name-of-a-machine.example", "active; direct 192.0.2.1:41641")
    assert table([row], 60) == [
        "100.64.0.2  a-very-long-name-of-a…  active; direct",
        "                                    192.0.2.1:41641",
    ]
    assert table([row], 20)[0] == "100.64.0.2  a-very-long…  active; direct"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.000047, "0s"),
        (0.00012, "100µs"),
        (0.00094, "900µs"),
        (0.00096, "1ms"),
        (0.01043, "10.4ms"),
        (1.23456, "1.2346s"),
    ],
)
def test_latencies_of_relays_are_told_in_tenths_of_a_millisecond(seconds: float, text: str) -> None:
    """As Go spells them."""
    assert format_fine(seconds) == text
