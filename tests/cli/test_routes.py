"""``tnet routes``, and ``--accept-routes`` of ``tnet set``."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fake_backend import FakeBackend
from tests.support.served import served
from tests.support.tnet import RUNNING, Daemon

from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.localapi.schema.network import RouteEntry

OWN = RouteEntry(prefix="192.0.2.0/24", verdict="not approved", why="approve it")
TEN = RouteEntry(prefix="10.1.0.0/16", peer="gw\x1b", peer_id="n2", verdict="not named")
EXIT = RouteEntry(prefix="::/0", peer="gw", peer_id="n2", verdict="exit node in use", used=True)
PART = RouteEntry(
    prefix="10.1.0.0/16",
    peer="gw",
    peer_id="n2",
    verdict="accepted in part",
    used=True,
    parts=("10.1.8.0/24",),
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """With two routes now, and other ones in two other cases."""
    routes = {
        None: (OWN, TEN, EXIT),
        "true": (OWN, TEN, EXIT),
        "10.1.8.0/24,peer:gw": (OWN, PART),
        "false": (),
    }
    backend = FakeBackend(about=RUNNING, route_entries=routes)
    path = tmp_path / "s"
    with served(backend, path):
        yield Daemon(backend, path)


def test_routes_are_a_table(daemon: Daemon) -> None:
    """Control characters go nowhere."""
    assert daemon.run("routes").stdout.splitlines() == [
        "ROUTE         VIA           STATE",
        "192.0.2.0/24  this machine  not approved (approve it)",
        "10.1.0.0/16   gw            not named",
        "::/0          gw            exit node in use",
    ]
    assert json.loads(daemon.run("routes", "--json").stdout)[1]["PeerID"] == "n2"


def test_a_dry_run_shows_what_would_change(daemon: Daemon) -> None:
    """And nothing else; without a setting, that of all routes."""
    run = daemon.run("routes", "--dry-run", "--accept-routes=10.1.8.0/24, peer:gw")
    assert run.stdout.splitlines() == ["+ 10.1.8.0/24 via gw", "- ::/0 via gw"]
    assert daemon.run("routes", "--dry-run").stdout == "Nothing would change.\n"
    refused = daemon.run("routes", "--accept-routes=false")
    assert (refused.exit_code, "needs --dry-run" in refused.stderr) == (1, True)
    daemon.backend.route_entries[None] = ()
    assert daemon.run("routes").stdout == "no routes are offered\n"


def test_the_setting_is_true_false_or_items(daemon: Daemon) -> None:
    """As two prefs, of which Go's clients know the first; and shown as it was given."""

    def prefs() -> tuple[bool, tuple[str, ...] | None]:
        now = daemon.backend.current
        return now.route_all, now.accept_routes

    assert daemon.run("set", "--accept-routes=10.1.0.0/16, tag:web").exit_code == 0
    assert prefs() == (True, ("10.1.0.0/16", "tag:web"))
    assert daemon.run("get", "accept-routes").stdout == "10.1.0.0/16,tag:web\n"
    assert "--accept-routes=10.1.0.0/16,tag:web" in daemon.run("get", "--set-flags").stdout
    assert daemon.run("set", "--accept-routes").exit_code == 0
    assert prefs() == (True, ())
    assert daemon.run("set", "--no-accept-routes").exit_code == 0
    assert prefs() == (False, ())
    assert daemon.run("get", "accept-routes").stdout == "false\n"
    refused = daemon.run("set", "--accept-routes=maybe")
    assert (refused.exit_code, "bad item 'maybe'" in refused.stderr) == (1, True)
    assert prefs() == (False, ())


def test_up_reminds_of_what_is_named(daemon: Daemon) -> None:
    """It would be reset silently."""
    url = "https://c.example"
    daemon.backend.current = Prefs(
        route_all=True, accept_routes=("tag:web",), control_url=url, logged_out=False
    )
    refused = daemon.run("up", "--hostname=box")
    assert "--accept-routes=tag:web" in refused.stderr
