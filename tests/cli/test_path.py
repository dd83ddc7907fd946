"""``tnet path``, and the policy of ``tnet set``."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import BOX, RUNNING, Daemon

from tailnet.agent.localapi.schema.paths import PathCandidate, PathDetails, PathSwitch

ABOUT = PathDetails(
    id="n2",
    name="box",
    kind="direct",
    addr="192.0.2.1:4",
    relay="nyc",
    latency_seconds=0.0123,
    trusted_for=4.25,
    switches=40,
    candidates=(
        PathCandidate(
            addr="192.0.2.1:4",
            sources=("control", "the peer's call"),
            used=True,
            verdict="won: it answered",
            pongs=(0.011, 0.0123),
            last_pong_age=2.0,
            last_ping_age=2.01,
            wire_mtu=1500,
        ),
        PathCandidate(
            addr="10.0.0.1:4", sources=("control",), verdict="no answer", last_ping_age=70
        ),
    ),
    history=(PathSwitch(age=7300.0, path="relay", why="it leads there\x1b[2J"),),
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Running, with one peer that has a stable id."""
    box = msgspec.structs.replace(BOX, id="n2")
    about = msgspec.structs.replace(RUNNING, peer={"nodekey:2": box})
    backend = FakeBackend(about=about, about_path=ABOUT)
    path = tmp_path / "s"
    with served(backend, path):
        yield Daemon(backend, path)


def policies(daemon: Daemon) -> tuple[str, ...] | None:
    """As the daemon has them."""
    return daemon.backend.current.path_policy


def test_path_says_who_won_and_why(daemon: Daemon) -> None:
    """And who lost; control characters go nowhere."""
    result = daemon.run("path", "box")
    assert result.stdout == (
        "box: direct\n"
        "  address   192.0.2.1:4, 12ms\n"
        "  trusted   for 4.2 s without another pong\n"
        "  relay     nyc\n"
        "  policy    auto\n"
        "  candidates:\n"
        "  * 192.0.2.1:4 (control, the peer's call)\n"
        "      won: it answered\n"
        "      answered in 11ms, 12ms, 2.0 s ago\n"
        "      packets of 1500 bytes pass\n"
        "    10.0.0.1:4 (control)\n"
        "      no answer\n"
        "      pinged 1 min ago\n"
        "  changes: 40\n"
        "        2.0 h ago  relay: it leads there[2J\n"
    )
    assert ("path", "100.64.0.2") in daemon.backend.calls


def test_path_as_json(daemon: Daemon) -> None:
    """As the daemon said it."""
    tree = json.loads(daemon.run("path", "--json", "box").stdout)
    assert (tree["Kind"], tree["Candidates"][1]["Verdict"]) == ("direct", "no answer")


def test_path_says_what_is_wrong(daemon: Daemon) -> None:
    """In one line each."""
    assert daemon.run("path", "nobody").stderr == "no peer found: nobody; see: tnet status\n"
    assert daemon.run("path", "me").stderr == "me is this machine\n"
    daemon.backend.about_path = None
    assert daemon.run("path", "box").stderr == "no peer has the address 100.64.0.2\n"


def test_policies_are_kept_by_stable_id_and_changed_one_at_a_time(daemon: Daemon) -> None:
    """A name becomes an id, ``auto`` removes, nothing clears all."""
    assert daemon.run("set", "--path-policy=box=relay-only,n9=direct-only").exit_code == 0
    assert policies(daemon) == ("n2=relay-only", "n9=direct-only")
    assert daemon.run("set", "--path-policy=100.64.0.2=direct-only").exit_code == 0
    assert policies(daemon) == ("n2=direct-only", "n9=direct-only")
    assert daemon.run("get", "path-policy").stdout == "n2=direct-only,n9=direct-only\n"
    assert daemon.run("set", "--path-policy=n9=auto").exit_code == 0
    assert policies(daemon) == ("n2=direct-only",)
    assert daemon.run("set", "--path-policy=").exit_code == 0
    assert policies(daemon) == ()
    twice = "box=relay-only,100.64.0.2=auto"
    for bad in ("box=fast", "box", "nobody=auto", "me=auto", "=auto", twice):
        result = daemon.run("set", f"--path-policy={bad}")
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
