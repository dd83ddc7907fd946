"""What ``tnet debug`` tries out at a real daemon: relays, keys, ways to connect, profiles."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.lab.config import Relay
from integration.lab.host import BIN, Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until
from tests.support.pprof import read_profile

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two hosts, two relays."""
    with Lab(flat("h1", "h2"), relays=(Relay(900), Relay(901))) as lab:
        lab.join()
        lab.wait_complete()
        yield lab


@pytest.fixture
def h1(lab: Lab) -> Host:
    """Who tries."""
    return lab.hosts["h1"]


def home(host: Host) -> str:
    """Code of its home relay."""
    relay: str = host.status()["Self"]["Relay"]
    return relay


def disco_key(at: Host, of: Host) -> str:
    """Of one host, as the other knows it."""
    keys: dict[str, str] = json.loads(at.ask("POST", "debug?action=peer-disco-keys")[1])
    return keys[str(of.status()["Self"]["PublicKey"])]


def test_relays_of_a_region_are_tried(h1: Host) -> None:
    """By number or code; what does not exist is an error."""
    for name in ("900", "lab901"):
        said = h1.tnet("debug", "derp", name).stdout
        assert "relays over IPv4" in said
        assert "answers STUN over IPv4: we are " in said
    missing = h1.tnet("debug", "derp", "902", check=False)
    assert (missing.returncode, missing.stdout) == (
        1,
        "error: the network map has no region '902'\n",
    )


def test_another_home_can_be_had(h1: Host) -> None:
    """Forced, picked, none at all, and free again; peers find us at each."""
    forced = "901" if home(h1) == "lab900" else "900"
    h1.tnet("debug", "force-prefer-derp", forced)
    until("that home", lambda: home(h1) == f"lab{forced}", 10)
    h1.tnet("debug", "force-prefer-derp", "0")
    h1.tnet("debug", "derp-set-on-demand")
    until("no home", lambda: home(h1) == "", 10)
    h1.tnet("debug", "derp-unset-on-demand")
    before = until("a home", lambda: home(h1), 10)
    h1.tnet("debug", "pick-new-derp")
    until("another home", lambda: home(h1) not in ("", before), 10)


def test_paths_are_found_by_a_new_key(lab: Lab, h1: Host) -> None:
    """Peers hear of it from control; the path is direct again, and no session is asked for."""
    h2 = lab.hosts["h2"]
    before = disco_key(h2, h1)
    h1.tnet("debug", "rotate-disco-key")
    until("the new key", lambda: disco_key(h2, h1) != before, 10)
    assert h1.tnet("ping", "-c", "5", "h2").stdout.splitlines()[-1].count("via 10.") == 1
    changes = json.loads(h1.tnet("debug", "peer-endpoint-changes", "h2").stdout)
    assert changes[-1]["To"].endswith(":41641")
    assert changes[-1]["When"][:2] == "20"


def test_each_way_to_connect_is_tried(lab: Lab, h1: Host) -> None:
    """Outside the tunnel nobody has that address."""
    h2 = lab.hosts["h2"]
    port = h2.status()["Self"]["PeerAPIURL"][0].rpartition(":")[2]
    said = h1.tnet("debug", "dial-types", "h2", port).stdout.splitlines()
    tries = {line.partition("]")[0][1:]: "connected=true" in line for line in said}
    assert tries == {"SystemDial": False, "UserDial": True, "BareDial": True, "PeerDial": True}


def test_the_control_server_is_reached_once_more(h1: Host) -> None:
    """Key, then Noise."""
    key, noise = h1.tnet("debug", "ts2021").stdout.splitlines()
    assert "the server's key is mkey:" in key
    assert "a Noise connection to " in noise
    assert json.loads(h1.tnet("debug", "hostinfo").stdout)["Hostname"] == "h1"


def test_a_router_that_is_none_gives_no_port(h1: Host) -> None:
    """Everything that happens is told, until the time is over."""
    said = h1.tnet("debug", "portmap", "--duration=300ms", "--type=pmp").stdout
    assert said.splitlines()[-1].endswith("no mapping")


def test_profiles_are_saved(h1: Host, tmp_path: Path) -> None:
    """Of time, while the daemon is asked a lot, and of memory; for their owner alone."""
    ask = f"{BIN}/tnet --socket={h1.socket} status --json >/dev/null"
    asking = h1.spawn("asking", "sh", "-c", f"while {ask}; do :; done")
    time, memory = tmp_path / "time", tmp_path / "memory"
    h1.tnet("debug", f"--cpu-profile={time}", "--profile-seconds=2", f"--mem-profile={memory}")
    asking.stop()
    assert {path.stat().st_mode & 0o777 for path in (time, memory)} == {0o600}
    spent = read_profile(time.read_bytes())
    assert any("BaseEventLoop._run_once" in each for stack in spent.samples for each in stack)
    used = read_profile(memory.read_bytes())
    assert any(stack[0].startswith("tailnet.agent.") for stack in used.samples)
