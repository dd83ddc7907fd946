"""Two hosts that cannot reach each other, and a third one that relays for them.

::

    a ──┐                                   UDP between a and b is dropped, later it is not
    b ──┼── bridge: control, DERP, STUN
    r ──┘   r is a peer relay
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from integration.conftest import MakeLab
from integration.lab.apart import apart, policy, together
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(150)]

RELAY_PORT = 7000
TIMEOUT = 20.0  # seconds for a path to change
BACK = 45.0  # seconds for a relay that returned: it is looked for every 30 s


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Iterator[Lab]:
    """Joined, apart, and with a policy that makes r the relay of the others."""
    lab = make_lab(flat("a", "b", "r"))
    lab.join()
    lab.wait_complete(30)
    a, b, r = (lab.hosts[name] for name in "abr")
    apart(lab, "a", "b")
    lab.admin("set_filter", rules=policy(r.ipv4, [a.ipv4, b.ipv4]))
    r.tnet("set", f"--relay-server-port={RELAY_PORT}")
    yield lab
    together(lab)


def sessions(relay: Host) -> list[dict[str, Any]]:
    """For whom it relays."""
    status, body = relay.ask("GET", "debug-peer-relay-sessions")
    assert status == 200
    about = json.loads(body)
    assert about["UDPPort"] == RELAY_PORT
    found: list[dict[str, Any]] = about["Sessions"]
    return found


def passed(relay: Host) -> int:
    """Packets so far, of both ends."""
    return sum(s[end]["PacketsTx"] for s in sessions(relay) for end in ("Client1", "Client2"))


def wait_for(kind: str, here: Host, there: Host, timeout: float = TIMEOUT) -> dict[str, Any]:
    """Until the path is of this kind, while something is sent."""

    def found() -> dict[str, Any] | None:
        here.ping_os(there.ipv4, count=1, wait=1)
        said: dict[str, Any] = json.loads(here.tnet("path", "--json", there.name).stdout)
        return said if said["Kind"] == kind else None

    return until(f"the path to be {kind}", found, timeout)


def test_the_relay_is_used_shown_and_carries_everything(lab: Lab) -> None:
    """Both ways, without loss, and no longer by DERP."""
    a, b, r = (lab.hosts[name] for name in "abr")
    assert a.tnet("debug", "peer-relay-servers").stdout.split() == [str(r.ipv4)]
    said = wait_for("peer-relay", a, b)
    wait_for("peer-relay", b, a)
    assert said["Addr"].split(":vni:")[0].endswith(f":{RELAY_PORT}")
    before = passed(r)
    assert a.ping_os(b.ipv4, count=20).lost == 0
    assert passed(r) >= before + 40
    assert f"peer-relay {said['Addr']}" in a.tnet("status").stdout
    pong = a.tnet("ping", "-c", "1", "--until-direct=false", "b").stdout
    assert f"via peer-relay({said['Addr']}) in " in pong
    assert a.tnet("path", "b").stdout.startswith("b: through a peer relay\n")
    shown = r.tnet("debug", "peer-relay-sessions").stdout
    assert shown.startswith(f"UDP port {RELAY_PORT}, sessions: 1\n")
    assert str(a.underlay) in shown or "fd99" in shown
    peer = a.peer("b")
    assert peer is not None
    assert (peer["CurAddr"], peer["PeerRelay"]) == ("", said["Addr"])


def test_a_dead_relay_gives_way_to_derp_and_a_returned_one_is_used_again(lab: Lab) -> None:
    """Traffic goes on within seconds."""
    a, b, r = (lab.hosts[name] for name in "abr")
    wait_for("peer-relay", a, b)
    r.kill9()
    wait_for("relay", a, b)
    assert a.ping_os(b.ipv4, count=5).lost == 0
    r.start()
    r.tnet("wait")
    wait_for("peer-relay", a, b, BACK)
    wait_for("peer-relay", b, a, BACK)
    assert a.ping_os(b.ipv4, count=5).lost == 0


def test_a_direct_path_that_opens_is_taken(lab: Lab) -> None:
    """The relay is not used any longer; nor is one that is turned off."""
    a, b, r = (lab.hosts[name] for name in "abr")
    wait_for("peer-relay", a, b)
    together(lab)
    wait_for("direct", a, b)
    wait_for("direct", b, a)
    apart(lab, "a", "b")
    wait_for("peer-relay", a, b, BACK)
    r.tnet("set", "--relay-server-port=")
    wait_for("relay", a, b)
    assert "no peer relay" in r.tnet("debug", "peer-relay-sessions").stdout
    together(lab)
    wait_for("direct", a, b)
    apart(lab, "a", "b")


def test_a_taken_port_is_said_and_the_relay_runs_on_another(lab: Lab) -> None:
    """As a health message."""
    r = lab.hosts["r"]
    port = int(json.loads(r.ask("GET", "prefs")[1]).get("RelayServerPort") or 0)
    assert port == 0
    r.tnet("set", "--relay-server-port=41641")  # where the daemon itself listens
    words = "UDP port 41641 is taken; the peer relay uses "
    until("the message", lambda: words in r.tnet("status").stdout, TIMEOUT)
    r.tnet("set", f"--relay-server-port={RELAY_PORT}")
    until("no message", lambda: words not in r.tnet("status").stdout, TIMEOUT)
    bad = r.tnet("set", "--relay-server-port=70000", check=False)
    assert bad.returncode == 1
    assert "bad relay server port 70000" in bad.stderr
