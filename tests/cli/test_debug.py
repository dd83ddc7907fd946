"""``tnet debug``, against a real LocalAPI with nothing behind it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.fake_backend import FakeBackend
from tests.support.served import served

from tailnet.cli.commands.debug_raw import lines_of
from tailnet.cli.main import cli


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[FakeBackend]:
    """A daemon's."""
    backend = FakeBackend()
    with served(backend, tmp_path / "s", lambda _: 0):
        yield backend


def run(tmp_path: Path, *args: str) -> Result:
    """Run ``tnet debug``."""
    return CliRunner().invoke(cli, ["--socket", str(tmp_path / "s"), "debug", *args])


def test_plan_is_indented_json(backend: FakeBackend, tmp_path: Path) -> None:
    """So that two can be compared."""
    assert run(tmp_path, "plan").stdout == '{\n  "Peers": []\n}\n'
    assert backend.calls == [("debug", "plan")]


def test_drops_are_a_line_each(backend: FakeBackend, tmp_path: Path) -> None:
    """By layer and reason; layers without any are left out."""
    assert run(tmp_path, "drops").stdout == ("packets  in_forged   3\npackets  in_unknown  12\n")
    assert backend.calls == [("debug", "drops")]


def test_clearing_the_kept_map_says_nothing(backend: FakeBackend, tmp_path: Path) -> None:
    """As commands that succeed do."""
    result = run(tmp_path, "clear-netmap-cache")
    assert (result.exit_code, result.output) == (0, "")
    assert backend.calls == [("debug", "clear-netmap-cache")]


def test_reload_config_says_what_happened(backend: FakeBackend, tmp_path: Path) -> None:
    """Also when there is nothing to reload."""
    assert run(tmp_path, "reload-config").stdout == "configuration reloaded\n"

    async def nothing() -> bool:
        return False

    backend.reload_config = nothing  # type: ignore[method-assign]
    result = run(tmp_path, "reload-config")
    assert (result.exit_code, "without a configuration file" in result.stderr) == (1, True)


def test_netmon_shows_devices_and_what_happened(backend: FakeBackend, tmp_path: Path) -> None:
    """And which device leads out."""
    assert run(tmp_path, "netmon").stdout == (
        "eth0  up  192.0.2.2/24  way out for IPv4\n"
        "2026-01-01T00:00:00.000+00:00  first: this is how it is\n"
    )
    assert backend.calls == [("debug", "netmon")]


def test_portmap_says_what_the_router_can(backend: FakeBackend, tmp_path: Path) -> None:
    """In words, with what was ignored."""
    assert run(tmp_path, "portmap").stdout.split("\n")[:5] == [
        "UPnP            yes",
        "NAT-PMP         no",
        "PCP             not asked",
        "mapped to       198.51.100.1:41641",
        "ignored: short  2",
    ]
    assert backend.calls == [("debug", "portmap")]


def test_udp_is_made_quick_or_why_not_is_said(backend: FakeBackend, tmp_path: Path) -> None:
    """One line."""
    assert run(tmp_path, "set-udp-gro-forwarding").output == ""
    backend.slow_udp = "eth0 cannot join the UDP that it forwards"
    result = run(tmp_path, "set-udp-gro-forwarding")
    assert (result.exit_code, backend.slow_udp in result.output) == (1, True)


@pytest.mark.parametrize("action", ["rebind", "restun"])
def test_actions_are_silent(backend: FakeBackend, tmp_path: Path, action: str) -> None:
    """As commands that succeed are."""
    result = run(tmp_path, action)
    assert (result.exit_code, result.output) == (0, "")
    assert backend.calls == [("debug", action)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("7", "10.1.0.0/16"), "fd7a:115c:a1e0:b1a:0:7:a01:0/112\n"),
        (("0xffffffff", "10.1.2.3/32"), "fd7a:115c:a1e0:b1a:ffff:ffff:a01:203/128\n"),
        (("fd7a:115c:a1e0:b1a:0:7:a01:0/112",), "site 7 (0x7), 10.1.0.0/16\n"),
    ],
)
def test_via_translates_both_ways(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """Without a daemon."""
    assert run(tmp_path, "via", *words).stdout == said


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("7",),
        ("fd7a::/64",),
        ("7", "10.0.0.1/8"),
        ("x", "10.0.0.0/8"),
        ("4294967296", "10.0.0.0/8"),
        ("1", "2", "3"),
    ],
)
def test_what_is_no_site_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    """In one line."""
    result = run(tmp_path, "via", *words)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "10.1.0.0/16" in result.stderr


@pytest.mark.parametrize("name", ["prefs", "derp-map", "packet-filter"])
def test_answers_are_shown_as_they_are(backend: FakeBackend, tmp_path: Path, name: str) -> None:
    """Indented JSON."""
    result = run(tmp_path, name)
    assert result.exit_code == 0, result.stderr
    json.loads(result.stdout)


def test_stacks_and_counters_are_text(backend: FakeBackend, tmp_path: Path) -> None:
    """Without a second line end."""
    assert run(tmp_path, "daemon-goroutines").stdout.splitlines()[0]
    assert run(tmp_path, "metrics").stdout == "process_open_fds 7\n"


def test_what_happens_is_watched_for_so_many_notices(backend: FakeBackend, tmp_path: Path) -> None:
    """The first says how things stand."""
    shown = run(tmp_path, "watch-ipn", "--initial", "--count=1")
    assert (shown.exit_code, '"State": 4' in shown.stdout) == (0, True)


def test_the_log_is_shown_line_by_line(backend: FakeBackend, tmp_path: Path) -> None:
    """What is no JSON as it is, without escapes."""
    pieces = iter([b'{"text":"one\\n"}\n{"te', b'xt":"two\\u001b"}\nthree\n'])
    assert list(lines_of(pieces)) == [
        b'{"text":"one\\n"}',
        b'{"text":"two\\u001b"}',
        b"three",
    ]


def test_a_component_is_logged_in_detail(backend: FakeBackend, tmp_path: Path) -> None:
    """For an hour, or as long as is said."""
    assert run(tmp_path, "component-logs", "magicsock", "--for=5m").exit_code == 0
    assert backend.process.calls == [("log", "magicsock", 300)]
    wrong = run(tmp_path, "component-logs", "nonsense")
    assert (wrong.exit_code, wrong.stderr) == (1, "unknown component 'nonsense'\n")


def test_the_localapi_is_asked_anything(backend: FakeBackend, tmp_path: Path) -> None:
    """By either form of a path; what is wrong is one line."""
    for path in ("prefs", "/localapi/v0/prefs"):
        body = '{"HostnameSet": true, "Hostname": "box"}'
        assert '"Hostname": "box"' in run(tmp_path, "localapi", "PATCH", path, body).stdout
    assert run(tmp_path, "localapi", "GET", "a b").exit_code == 1
    assert "no JSON object" in run(tmp_path, "localapi", "POST", "start", "{").stderr
    assert run(tmp_path, "localapi", "GET", "nonsense").stderr == "not found\n"


def test_profiles_are_saved_for_their_owner_alone(backend: FakeBackend, tmp_path: Path) -> None:
    """By upstream's flags, with one dash or two."""
    time, memory = tmp_path / "time", tmp_path / "memory"
    done = run(tmp_path, f"-cpu-profile={time}", "--mem-profile", str(memory))
    assert (done.exit_code, time.read_bytes(), memory.read_bytes()) == (0, b"time", b"memory")
    assert {path.stat().st_mode & 0o777 for path in (time, memory)} == {0o600}
    assert backend.process.calls == [("profile", 15.0), ("heap", 0.0)]


@pytest.mark.usefixtures("backend")
def test_a_profile_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """In one line."""
    done = run(tmp_path, f"--mem-profile={tmp_path}/none/memory")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)


def test_files_of_taildrop_are_not_here(tmp_path: Path) -> None:
    """Upstream's flag is known."""
    done = run(tmp_path, "-file=get")
    assert done.exit_code == 2
    assert "Taildrop is not here yet" in done.output
