"""``tnet top`` and ``tnet status --watch``."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import BOX, RUNNING, Daemon

from tailnet.agent.localapi.schema.paths import PathDetails
from tailnet.cli.live import picture
from tailnet.cli.meter import (
    BARS,
    MEMORY,
    Counters,
    Meter,
    Rate,
    format_rate,
    format_size,
    sparkline,
)


def test_rates_are_growth_over_time() -> None:
    """Of new peers, and after a restart of the daemon, none."""
    meter = Meter()
    assert meter.look({"a": Counters(1000, 0)}, 10.0)["a"] == Rate(0.0, 0.0, (0.0,))
    rate = meter.look({"a": Counters(3000, 500), "b": Counters(9, 9)}, 12.0)
    assert rate["a"] == Rate(1000.0, 250.0, (0.0, 1250.0))
    assert rate["b"].both == 0
    assert meter.look({"a": Counters(10, 10)}, 13.0)["a"].both == 0


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.floats(0.01, 100)), max_size=60))
def test_rates_are_never_negative_and_memory_is_bounded(looks: list[tuple[int, float]]) -> None:
    """Whatever the counters do."""
    meter, now = Meter(), 0.0
    for count, step in looks:
        now += step
        rate = meter.look({"a": Counters(count, count // 2)}, now)["a"]
        assert rate.received >= 0
        assert rate.sent >= 0
        assert len(rate.recent) <= MEMORY


@given(st.lists(st.floats(0, 1e12), max_size=30).map(tuple))
def test_a_sparkline_has_a_bar_a_value_and_the_highest_is_full(values: tuple[float, ...]) -> None:
    """Flat where nothing moved."""
    line = sparkline(values)
    assert len(line) == len(values)
    assert set(line) <= set(BARS)
    if any(v > 1e-300 for v in values):
        assert line[values.index(max(values))] == BARS[-1]


@pytest.mark.parametrize(
    ("rate", "want"),
    [(0, ""), (0.4, ""), (999, "999 B/s"), (1234, "1.2 KB/s"), (345_678, "346 KB/s"),
     (5.6e6, "5.6 MB/s"), (2.5e9, "2.50 GB/s")],
)  # fmt: skip
def test_rates_are_short(rate: float, want: str) -> None:
    """Two or three digits and a unit."""
    assert format_rate(rate) == want
    assert format_size(1_230_000_000) == "1.2 GB"


def test_the_busiest_come_first_and_the_silent_are_left_out() -> None:
    """In ``top``; the other view has all, those online first."""
    quiet = msgspec.structs.replace(
        BOX, public_key="q", dns_name="quiet.x.", rx_bytes=0, tx_bytes=0
    )
    busy = msgspec.structs.replace(BOX, public_key="b", dns_name="busy.x.", rx_bytes=5, tx_bytes=5)
    some = msgspec.structs.replace(BOX, public_key="s", dns_name="some.x.", rx_bytes=99, tx_bytes=9)
    status = msgspec.structs.replace(RUNNING, peer={"q": quiet, "s": some, "b": busy})
    rates = {"b": Rate(2e6, 0.0, (0.0, 2e6)), "s": Rate(0.0, 0.0, (0.0, 0.0))}
    top = picture(status, {}, rates, busiest=True)
    assert [row[0] for row in top.rows] == ["busy", "some"]
    assert top.rows[0][4:7] == ("2.0 MB/s", "", f"{BARS[0]}{BARS[-1]}")
    assert "in 2.0 MB/s" in top.title
    assert len(picture(status, {}, rates, busiest=False).rows) == 3


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Running, with one peer."""
    peer = msgspec.structs.replace(BOX, id="n2", host_name="box\x1b[2J", rx_bytes=10, tx_bytes=1)
    about = msgspec.structs.replace(RUNNING, peer={"nodekey:2": peer})
    path = tmp_path / "s"
    backend = FakeBackend(
        about=about, about_path=PathDetails(id="n2", kind="direct", latency_seconds=0.012)
    )
    with served(backend, path):
        yield Daemon(backend, path)


def test_top_in_a_pipe_is_plain(daemon: Daemon) -> None:
    """No escapes, neither ours nor the network's."""
    shown = daemon.run("top", "-n", "1")
    assert shown.exit_code == 0
    assert "\x1b" not in shown.output
    assert "12ms" in shown.output


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--every", "0"), "is 100ms to 1h"),
        (("--every", "x"), "bad duration 'x'; write it like 5s"),
        (("-n", "-1"), "-1 is not in the range x>=0"),
    ],
)
def test_nonsense_is_one_line(daemon: Daemon, args: tuple[str, ...], says: str) -> None:
    """With what would make sense; nothing is drawn."""
    shown = daemon.run("top", *args)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert says in shown.stderr.splitlines()[-1]
