"""The control server asks real daemons: pings, signs of life, requests to the node.

::

    h1 ── bridge: control, DERP, STUN ── h2        UDP from h1 to h2: dropped, so all is relayed
"""

import json
import re
import sys

import pytest
from integration.lab.lab import Lab
from integration.lab.translator import UPLINK
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(60)]


def c2n(lab: Lab, request: str) -> tuple[str, str]:
    """Status line and body of h1's answer."""
    answer = lab.admin("c2n", name="h1", request=f"{request} HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition("\r\n\r\n")
    return head.split("\r\n")[0], body


def test_pings_of_all_types(relayed: Lab) -> None:
    """Disco, TSMP and ICMP are answered, the rest in words; one report a type."""
    two = relayed.hosts["h2"]
    for address in (two.ipv4, two.ipv6):
        disco, tsmp, icmp = relayed.admin(
            "pings", name="h1", types="disco,TSMP,ICMP", ip=str(address)
        )
        assert disco["Type"] == "disco"
        assert disco["DERPRegionCode"] == "lab900"
        assert disco["NodeName"] == "h2"
        assert 0 < disco["LatencySeconds"] < 5
        assert (tsmp["Type"], "Err" in tsmp) == ("TSMP", False)
        assert 0 < tsmp["LatencySeconds"] < 5
        assert (icmp["Type"], "Err" in icmp) == ("ICMP", False)
        assert 0 < icmp["LatencySeconds"] < 5
        (peerapi,) = relayed.admin("pings", name="h1", types="peerapi", ip=str(address))
        assert (peerapi["Type"], "Err" in peerapi) == ("peerapi", False)
        assert 0 < peerapi["LatencySeconds"] < 5


def test_pings_of_all_types_for_users(relayed: Lab) -> None:
    """``tnet ping`` with each flag; a TSMP pong brings the peer's PeerAPI port."""
    one, two = relayed.hosts["h1"], relayed.hosts["h2"]
    for address in (two.ipv4, two.ipv6):
        for flag, who in (("--tsmp", rf"{address}, \d+"), ("--icmp", str(address))):
            said = one.tnet("ping", flag, str(address)).stdout
            assert re.match(rf"pong from h2 \({who}\) via {flag[2:].upper()} in ", said)
        said = one.tnet("ping", "--peerapi", str(address)).stdout
        assert said.startswith(f"hit peerapi of {address} (h2) at http://")


def test_pings_of_nobody_and_of_itself(relayed: Lab) -> None:
    """An answer that says so, at once."""
    one = relayed.hosts["h1"]
    said = relayed.admin("ping", name="h1", types="disco", ip="100.99.99.99")
    assert said["Err"] == "no matching peer"
    said = relayed.admin("ping", name="h1", types="TSMP", ip=str(one.ipv4))
    assert said["IsLocalIP"] is True


@pytest.mark.parametrize("noise", [True, False])
def test_sign_of_life(relayed: Lab, noise: bool) -> None:
    """Within the Noise connection, and by plain HTTP."""
    relayed.admin("alive", name="h1", noise=noise)


def test_requests_to_the_node(relayed: Lab) -> None:
    """Prefs without keys, health, and what is declined."""
    assert c2n(relayed, "GET /echo") == ("HTTP/1.1 200 OK", "")
    status, body = c2n(relayed, "GET /debug/prefs")
    assert status == "HTTP/1.1 200 OK"
    prefs = json.loads(body)
    assert (prefs["Hostname"], prefs["WantRunning"]) == ("h1", True)
    assert "privkey" not in body
    assert "tskey" not in body
    status, body = c2n(relayed, "GET /debug/health")
    assert json.loads(body)["Warnings"] == {}
    status, body = c2n(relayed, "GET /debug/goroutines")
    assert status == "HTTP/1.1 200 OK"
    assert "task control:" in body
    assert "thread MainThread:" in body
    status, body = c2n(relayed, "GET /debug/netmap")
    current = json.loads(body)["Current"]
    assert [peer["Name"] for peer in current["Peers"]] == ["h2.lab.ts.net."]
    assert current["SelfNode"]["Key"] == current["NodeKey"]
    assert "privkey" not in body
    status, body = c2n(relayed, "GET /debug/metrics")
    assert status == "HTTP/1.1 200 OK"
    assert 'tailscaled_inbound_packets_total{path="derp"}' in body
    assert c2n(relayed, "GET /remoteapi/localapi/v0/prefs")[0] == "HTTP/1.1 403 Forbidden"
    assert c2n(relayed, "GET /nothing") == ("HTTP/1.1 400 Bad Request", "unknown c2n path\n")


def test_a_record_for_a_certificate(relayed: Lab) -> None:
    """``set-dns`` of the LocalAPI: the server publishes it, or says why not."""
    one = relayed.hosts["h1"]
    name = "_acme-challenge.h1.lab.ts.net"
    assert one.ask("POST", f"set-dns?name={name}&value=token") == (200, "{}")
    assert relayed.admin("dns") == {name: "token"}
    status, body = one.ask("POST", "set-dns?name=_acme-challenge.h2.lab.ts.net&value=token")
    assert status == 500
    assert "belongs to somebody else" in json.loads(body)["Error"]
    status, body = one.ask("POST", "set-dns?name=h1&value=token")
    assert (status, "bad record name" in body) == (500, True)


def test_a_cut_connection_is_resumed(relayed: Lab) -> None:
    """The session goes on with deltas, and peers stay reachable."""

    def node() -> dict[str, int]:
        return next(n for n in relayed.admin("nodes") if n["name"] == "h1")

    relayed.admin("set-resume", offered=True)
    try:
        streams = node()["streams"]  # a new one may be there before the next question
        relayed.admin("drop-streams")  # the sessions so far have no name
        until("a new stream", lambda: node()["streams"] > streams, 10)
        before = node()
        relayed.admin("drop-streams")
        until("a resumed stream", lambda: node()["resumed"] > before["resumed"], 10)
    finally:
        relayed.admin("set-resume", offered=False)
    assert relayed.hosts["h1"].ping_os(relayed.hosts["h2"].ipv4).lost == 0


LISTENS = """
import socket, time
servers = [socket.create_server(("0.0.0.0", 8123)), socket.create_server(("127.0.0.1", 8124))]
time.sleep(60)
"""


def test_who_listens_is_told_when_asked(relayed: Lab) -> None:
    """A port that others reach and its program; not with shields up, nor when nobody asks."""
    one = relayed.hosts["h1"]

    def told() -> list[list[object]]:
        services: list[list[object]] = next(
            n["services"] for n in relayed.admin("nodes") if n["name"] == "h1"
        )
        return [service for service in services if service[0] in {8123, 8124}]

    process = one.spawn("listens", sys.executable, "-c", LISTENS)
    try:
        assert told() == []
        relayed.admin("set-collect-services", wanted=True)
        until("the port is told", lambda: told() != [], 10)
        ((port, program),) = told()
        assert (port, str(program).startswith("python")) == (8123, True)
        one.tnet("set", "--shields-up")
        until("nothing is told with shields up", lambda: told() == [], 10)
        one.tnet("set", "--shields-up=false")
        until("it is told again", lambda: told() != [], 10)
        process.stop()
        until("it is gone", lambda: told() == [], 15)
    finally:
        process.stop()
        relayed.admin("set-collect-services", wanted=False)


def test_node_attributes_are_acted_on(relayed: Lab) -> None:
    """One route in the kernel for all peers, nothing but HTTPS; both undone, and packets pass."""
    one, two = relayed.hosts["h1"], relayed.hosts["h2"]
    everybody, single = "100.64.0.0/10 dev", f"{two.ipv4} dev"
    counter = "counter inet seen other"
    one.exec(
        "nft",
        "add table inet seen; add counter inet seen other;"
        "add chain inet seen out { type filter hook output priority 0; };"
        f"add rule inet seen out oifname {UPLINK} meta l4proto {{ udp, icmp }} counter name other",
    )

    def others_left() -> bool:
        """Whether anything but TCP leaves when all is asked for that would do that."""
        one.exec("nft", "reset", *counter.split())
        one.tnet("debug", "restun")
        assert one.ping_os(two.ipv4, count=2).lost == 0
        return "packets 0 " not in one.exec("nft", "list", *counter.split()).stdout

    def routes() -> str:
        return one.exec("ip", "route", "show", "table", "52").stdout

    assert others_left()
    assert everybody not in routes()
    relayed.admin("set-attributes", name="h1", attributes=["one-cgnat?v=true", "only-tcp-443"])
    until("one route", lambda: everybody in routes() and single not in routes(), 10)
    assert not others_left()
    assert "relay-only" in one.tnet("path", "h2").stdout
    relayed.admin("set-attributes", name="h1", attributes=[])
    until("a route for each", lambda: everybody not in routes() and single in routes(), 10)
    assert others_left()
    one.exec("nft", "delete", "table", "inet", "seen")
