"""``tnet debug`` at a real daemon: each command that upstream has works, or says what there is."""

import json

import pytest
from integration.lab.host import BIN
from integration.lab.lab import Lab
from integration.lab.waiting import until

from tailnet.cli.commands.debug_acts import ACTS, ELSEWHERE

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

UPSTREAMS = """
    prefs netmap watch-ipn env hostinfo stat statedir go-buildinfo control-knobs
    local-creds localapi daemon-logs daemon-goroutines daemon-bus-events daemon-bus-graph
    daemon-bus-queues component-logs metrics rebind restun rotate-disco-key
    break-tcp-conns break-derp-conns pick-new-derp force-prefer-derp derp-set-on-demand
    derp-unset-on-demand force-netmap-update clear-netmap-cache derp-map derp portmap
    peer-endpoint-changes peer-relay-servers peer-relay-sessions capture via dial-types
    resolve ts2021 set-expire dev-store-set reload-config test-risk
""".split()  # noqa: SIM905 - one name a word reads better
JSON = ("prefs", "netmap", "derp-map", "control-knobs", "plan", "packet-filter", "statedir")


@pytest.mark.parametrize("name", UPSTREAMS)
def test_each_of_upstreams_is_here_or_says_what_is(pair: Lab, name: str) -> None:
    """No word of upstream's is just unknown."""
    done = pair.hosts["h1"].tnet("debug", name, "--help", check=False)
    if name in ELSEWHERE:
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"there is no tnet debug {name}: ")
    else:
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", JSON)
def test_answers_are_json(pair: Lab, name: str) -> None:
    """Of the daemon that runs."""
    said = json.loads(pair.hosts["h1"].tnet("debug", name).stdout)
    assert said or name == "control-knobs"


@pytest.mark.parametrize("name", [name for name in ACTS if "derp" not in name or "break" in name])
def test_an_action_leaves_the_tailnet_connected(pair: Lab, name: str) -> None:
    """Whatever is broken mends itself."""
    one, other = pair.hosts["h1"], pair.hosts["h2"]
    assert one.tnet("debug", name).stdout == ""
    ask = ("ping", "-c", "1", "--until-direct=false", other.name)
    until("a ping", lambda: one.tnet(*ask, check=False).returncode == 0, 20)
    one.wait_running(20)


def test_what_is_watched_can_be_chosen(pair: Lab) -> None:
    """The first line has what was asked for, and no more."""
    watch = ("debug", "watch-ipn", "--count=1")
    one = pair.hosts["h1"]
    for flag, field in (
        ("--initial-health", "Health"),
        ("--initial-status", "InitialStatus"),
        ("--initial-suggested-exit-node", "SuggestedExitNode"),
    ):
        first = json.loads(one.tnet(*watch, flag).stdout)
        assert field in first
        assert first["Prefs"] is None
    assert json.loads(one.tnet(*watch, "--initial").stdout)["Prefs"]["WantRunning"] is True


def test_sessions_of_peers_are_watched(pair: Lab) -> None:
    """By stable id, since the handshake."""
    one, other = pair.hosts["h1"], pair.hosts["h2"]
    one.ping_os(other.ipv4)
    watch = ("debug", "watch-ipn", "--count=1", "--peer-wireguard-state")
    (session,) = json.loads(one.tnet(*watch).stdout)["PeerState"].values()
    assert session["PeerWireGuardState"] == "established"
    assert session["PeerWireGuardStateAt"][:2] == "20"


def test_the_log_has_times_if_wanted(pair: Lab) -> None:
    """As it grows."""
    one = pair.hosts["h1"]
    following = one.spawn(
        "logs", BIN / "tnet", f"--socket={one.socket}", "debug", "daemon-logs", "--time"
    )

    def heard() -> bool:
        one.tnet("bugreport", "anybody there")
        return any("anybody there" in x and x[:2] == "20" for x in following.tail().splitlines())

    until("a line of the log", heard, 20)
    following.stop()


def test_the_key_may_end_earlier(pair: Lab) -> None:
    """The server has it, and says so."""
    one = pair.hosts["h1"]
    assert "KeyExpiry" not in one.status()["Self"]
    one.tnet("debug", "set-expire", "--in=2h")
    until("an end of the key", lambda: "KeyExpiry" in one.status()["Self"], 20)


def test_the_words_of_local_creds_are_a_command_that_works(pair: Lab) -> None:
    """For any program."""
    one = pair.hosts["h1"]
    said = one.exec(*one.tnet("debug", "local-creds").stdout.split(), "-s").stdout
    assert json.loads(said)["BackendState"] == "Running"
