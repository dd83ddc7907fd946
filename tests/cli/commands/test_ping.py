"""``tnet ping``: how it goes on, and how it ends."""

import msgspec
import pytest
from msgspec.structs import replace
from tests.support.tnet import Daemon

from tailnet.agent.localapi.schema.paths import PingResult
from tailnet.cli.commands import ping

DIRECT = PingResult(
    ip="100.64.0.2",
    node_ip="100.64.0.2",
    node_name="box",
    endpoint="192.0.2.1:4",
    latency_seconds=0.0123,
)
RELAYED = msgspec.structs.replace(DIRECT, endpoint="", derp_region_id=1, derp_region_code="nyc")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "INTERVAL", 0.0)


def test_ping_ends_with_a_direct_pong(daemon: Daemon) -> None:
    """After relayed ones."""
    daemon.backend.pings = [RELAYED, DIRECT, DIRECT]
    result = daemon.run("ping", "box", "--size=100")
    assert result.exit_code == 0
    assert result.stdout == (
        "pong from box (100.64.0.2) via DERP(nyc) in 12ms\n"
        "pong from box (100.64.0.2) via 192.0.2.1:4 in 12ms\n"
    )
    assert ("ping", "100.64.0.2", "disco", 100) in daemon.backend.calls


def test_ping_says_what_did_not_work(daemon: Daemon) -> None:
    """Relayed only, nothing at all, or the daemon's own reason."""
    daemon.backend.pings = [RELAYED, RELAYED]
    assert daemon.run("ping", "-c", "2", "box").stderr == "direct connection not established\n"
    daemon.backend.pings = [RELAYED, RELAYED]
    assert daemon.run("ping", "-c=2", "--until-direct=false", "box").exit_code == 0
    daemon.backend.pings = [PingResult(err="timeout waiting for a pong")]
    result = daemon.run("ping", "-c", "1", "box")
    assert (result.stdout, result.stderr) == ('ping "100.64.0.2" timed out\n', "no reply\n")
    assert daemon.run("ping", "box").stderr == "no answer\n"


@pytest.mark.parametrize(("flag", "kind"), [("--tsmp", "TSMP"), ("--icmp", "ICMP")])
def test_one_answer_through_the_tunnel_is_enough(daemon: Daemon, flag: str, kind: str) -> None:
    """With the port of the peer's API if it told that; silence is no reply."""
    about = PingResult(node_name="box", node_ip="100.64.0.2", latency_seconds=0.012)
    daemon.backend.pings = [PingResult(err="timeout waiting for a pong"), about]
    result = daemon.run("ping", flag, "box")
    assert result.stdout.splitlines()[1] == f"pong from box (100.64.0.2) via {kind} in 12ms"
    assert ("ping", "100.64.0.2", kind, 0) in daemon.backend.calls
    daemon.backend.pings = [replace(about, peer_api_port=4711)]
    said = daemon.run("ping", flag, "box").stdout
    assert said == f"pong from box (100.64.0.2, 4711) via {kind} in 12ms\n"
    daemon.backend.pings = [PingResult(err="timeout waiting for a pong")]
    assert daemon.run("ping", flag, "-c=1", "box").stderr == "no reply\n"


def test_ping_of_the_peer_api(daemon: Daemon) -> None:
    """Where it is, or why there is none."""
    daemon.backend.pings = [
        PingResult(node_name="box", node_ip="100.64.0.2", peer_api_url="http://100.64.0.2:4711")
    ]
    result = daemon.run("ping", "--peerapi", "box")
    assert result.stdout == "hit peerapi of 100.64.0.2 (box) at http://100.64.0.2:4711 in 0µs\n"
    daemon.backend.pings = [PingResult(err="no PeerAPI base found for peer 2 (100.64.0.2)")]
    assert "no PeerAPI base" in daemon.run("ping", "--peerapi", "box").stderr


def test_kinds_of_pings_exclude_each_other(daemon: Daemon) -> None:
    """And only disco has sizes."""
    result = daemon.run("ping", "--tsmp", "--icmp", "box")
    assert result.stderr == "choose one of --tsmp, --icmp and --peerapi\n"
    result = daemon.run("ping", "--tsmp", "--size=100", "box")
    assert result.stderr == "--size does not go with --tsmp\n"
    assert daemon.backend.calls == []


def test_ping_to_self_is_no_failure(daemon: Daemon) -> None:
    """It says so."""
    result = daemon.run("ping", "me")
    assert (result.exit_code, result.stdout) == (0, "127.0.0.1 is local Tailscale IP\n")
