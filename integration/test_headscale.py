"""A control server of others, headscale, with two nodes of ours; ``HEADSCALE`` names the program.

Relay and STUN are the lab's, which headscale tells of.  It is built from its own sources:
``go build ./cmd/headscale``.
"""

import json
import os
from typing import Any

import pytest
from integration.conftest import MakeLab
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import LabError, Process, run
from integration.lab.topology import flat
from integration.lab.waiting import until

PROGRAM = os.environ.get("HEADSCALE", "")
pytestmark = [
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not PROGRAM, reason="HEADSCALE names no program"),
]

PORT = 8085
_MAP = """\
regions:
  %(region)d:
    regionid: %(region)d
    regioncode: lab
    regionname: Lab
    nodes:
      - {name: a, regionid: %(region)d, hostname: %(address)s, ipv4: %(address)s, ipv6: none,
         stunport: 3478, derpport: %(port)d, insecurefortests: true}
"""
_CONFIG = """\
server_url: http://%(address)s:%(port)d
listen_addr: %(address)s:%(port)d
metrics_listen_addr: 127.0.0.1:9090
noise: {private_key_path: %(directory)s/noise.key}
prefixes: {v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential}
derp: {server: {enabled: false}, urls: [], paths: [%(directory)s/derp.yaml]}
disable_check_updates: true
database: {type: sqlite, sqlite: {path: %(directory)s/db.sqlite}}
dns: {magic_dns: true, base_domain: hs.test, override_local_dns: false}
unix_socket: %(directory)s/headscale.sock
logtail: {enabled: false}
"""


class Headscale:
    """The server, in the segment of the lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.directory = lab.directory / "headscale"
        self.directory.mkdir()
        address = str(lab.topology.internet.ipv4.ip)
        self.url = f"http://{address}:{PORT}"
        (relay,) = lab.relays
        words = {"address": address, "region": relay.region, "port": relay.listens}
        (self.directory / "derp.yaml").write_text(_MAP % words)
        words = {"address": address, "port": PORT, "directory": self.directory}
        self._config = self.directory / "config.yaml"
        self._config.write_text(_CONFIG % words)

    def start(self) -> Process:
        """Run it, as it was."""
        log = self.directory.with_suffix(".log")
        command = [PROGRAM, "serve", "-c", str(self._config)]
        served = Process("headscale", command, log, namespace=self._lab.network.internet)
        self._lab.adopt(served)
        until("headscale", self._answers, 30, every=0.2)
        return served

    def ask(self, *words: str) -> Any:  # noqa: ANN401 - what it says is its own
        """One of its commands."""
        command = [PROGRAM, "-c", str(self._config), *words, "--output", "json"]
        return json.loads(run(command, namespace=self._lab.network.internet).stdout)

    def online(self) -> set[str]:
        """Who it thinks is there."""
        return {node["name"] for node in self.ask("nodes", "list") or () if node.get("online")}

    def _answers(self) -> bool:
        try:
            self.ask("users", "list")
        except LabError:
            return False
        return True


@pytest.fixture(scope="module")
def served(make_lab: MakeLab) -> tuple[Lab, Headscale, Process, str]:
    """Both have joined; the lab, the server, its process and a key."""
    lab = make_lab(flat("h1", "h2"))
    server = Headscale(lab)
    process = server.start()
    server.ask("users", "create", "lab")
    key: str = server.ask("preauthkeys", "create", "--user", "1", "--reusable")["key"]
    for host in lab.hosts.values():
        host.login_server = server.url
        host.start()
        host.up(key)
        host.wait_running(20)
    lab.hosts["h1"].wait_peers({"h2"}, 20)
    return lab, server, process, key


def _reaches(one: Host, two: Host) -> bool:
    return not one.ping_os(two.ipv4, count=2).lost and not one.ping_os(two.ipv6, count=2).lost


def test_nodes_of_a_headscale_meet(served: tuple[Lab, Headscale, Process, str]) -> None:
    """Both ways, directly, then through the relay that it told of."""
    lab, server, _, _ = served
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    assert server.online() == {"h1", "h2"}
    for kind in ((), ("--tsmp",), ("--icmp",)):
        assert one.tnet("ping", "-c", "1", *kind, "h2").stdout.startswith("pong from h2")
    until("a direct path", lambda: _reaches(one, two) and one.path_to("h2"), 20)
    assert _reaches(two, one)
    lab.network.allow_udp(allowed=False)
    one.tnet("debug", "rebind")
    until("the relay", lambda: _reaches(one, two) and not one.path_to("h2"), 20)
    lab.network.allow_udp(allowed=True)


def test_a_headscale_may_restart(served: tuple[Lab, Headscale, Process, str]) -> None:
    """Traffic goes on without it, and the nodes come back by themselves."""
    lab, server, process, _ = served
    process.kill()
    assert _reaches(lab.hosts["h1"], lab.hosts["h2"])
    server.start()
    until("both to be back", lambda: server.online() == {"h1", "h2"}, 60, every=0.5)


def test_a_key_that_headscale_expires_is_renewed(
    served: tuple[Lab, Headscale, Process, str],
) -> None:
    """The node says so, and joins again as the same."""
    lab, server, _, key = served
    two = lab.hosts["h2"]
    address = two.ipv4
    (number,) = (node["id"] for node in server.ask("nodes", "list") if node["name"] == "h2")
    server.ask("nodes", "expire", "--identifier", str(number))
    until("the end of the key", lambda: two.status()["BackendState"] == "NeedsLogin", 20)
    two.up(key)
    two.wait_running(20)
    assert two.ipv4 == address
    until("h2 again", lambda: _reaches(lab.hosts["h1"], two), 20)
