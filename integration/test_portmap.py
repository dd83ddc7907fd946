"""A host behind a real router, and one behind a firewall: only a port mapping joins them directly.

::

    h1 ── router: random ports, miniupnpd ── segment: control, DERP, STUN ── h2, lets nothing new in
"""

import json
from collections.abc import Iterator

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.host import PORT, Host
from integration.lab.lab import Lab
from integration.lab.miniupnpd import missing
from integration.lab.process import run
from integration.lab.router import OUTSIDE, Router
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

FIREWALL = """\
table inet fw {
	chain input {
		type filter hook input priority 0;
		iifname "eth0" meta l4proto udp ct state new counter drop
	}
}
"""
LEASE = 6  # seconds


class Home:
    """Both hosts and the router."""

    def __init__(self, lab: Lab) -> None:
        self.h1, self.h2 = lab.hosts["h1"], lab.hosts["h2"]
        self.router = Router(lab.hosts["router"], self.h1, [self.h2])
        run(["nft", "-f", "-"], namespace=self.h2.namespace, feed=FIREWALL)

    def until_mapped(self) -> int:
        """The port outside, once the router has it; there is no other."""
        [port] = until("a mapping", self.router.mappings, 15)
        return port

    def until_direct(self) -> str:
        """How h2 reaches h1, once it does."""

        def direct() -> str:
            self.h2.ping_os(self.h1.ipv4, count=1)
            return self.h2.path_to("h1")

        return until("a direct path", direct, 20)

    def restart_daemon(self, lab: Lab) -> None:
        """Of h1."""
        if self.h1.daemon is not None:
            assert self.h1.stop() == 0
        self.h1.start(*lab.flags)


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Nobody has joined yet."""
    if why := missing():
        cannot(why)
    return make_lab(flat("h1", "h2", "router"))


@pytest.fixture(scope="module")
def home(lab: Lab) -> Iterator[Home]:
    """Both have joined; the router maps nothing."""
    home = Home(lab)
    lab.join("h1", "h2")
    lab.wait_complete()
    yield home
    home.router.stop()


@pytest.fixture
def mapping(home: Home) -> Home:
    """The router speaks everything, and h1 has its mapping."""
    home.router.stop()
    home.router.reset()
    home.router.start()
    home.until_mapped()
    return home


def ping(here: Host, there: Host, count: int) -> list[str]:
    """What ``tnet ping`` says."""
    said = here.tnet("ping", "-c", str(count), "--until-direct=false", str(there.ipv4)).stdout
    return [line for line in said.splitlines() if line.startswith("pong")]


def by_mapping(here: Host, there: Host) -> bool:
    """``here`` says that its router's port is part of the way."""
    _, text = here.ask("GET", f"path?ip={there.ipv4}")
    mapped: bool = json.loads(text)["PortMapped"]
    return mapped


def test_without_a_mapping_there_is_no_direct_path(home: Home) -> None:
    """The router's ports are random, and h2 lets nobody in whom it did not write to."""
    for here, there in ((home.h1, home.h2), (home.h2, home.h1)):
        pongs = ping(here, there, 4)
        assert len(pongs) == 4
        assert all("via DERP(lab900)" in pong for pong in pongs)
    assert home.router.mappings() == set()


def test_a_router_that_begins_to_map_is_noticed_and_the_path_becomes_direct(home: Home) -> None:
    """It announces itself; the mapping is told to control, and h2 comes in by it."""
    home.router.start()
    port = home.until_mapped()
    assert home.until_direct() == f"{OUTSIDE}:{port}"
    assert home.h1.ping_os(home.h2.ipv4, count=3).lost == 0
    until("a path", lambda: by_mapping(home.h1, home.h2), 10)
    assert "by the port that our router keeps open" in home.h1.tnet("path", "h2").stdout
    assert not by_mapping(home.h2, home.h1)
    assert f"{OUTSIDE}:{port}" in home.h1.status()["Self"]["Addrs"]


def test_a_router_that_restarted_has_its_mapping_again(mapping: Home) -> None:
    """Without a change of any link."""
    mapping.until_direct()
    mapping.router.stop()
    mapping.router.reset()
    assert mapping.router.mappings() == set()
    mapping.router.start()
    assert mapping.until_mapped()
    mapping.until_direct()


@pytest.mark.parametrize("protocol", ["pmp", "pcp", "upnp"])
def test_each_protocol_maps_and_releases(home: Home, lab: Lab, protocol: str) -> None:
    """A daemon that stops takes its mapping back."""
    if home.h1.daemon is not None:
        assert home.h1.stop() == 0
    home.router.stop()
    home.router.reset()
    home.router.start()
    home.router.speak(protocol)
    home.restart_daemon(lab)
    home.until_mapped()
    assert home.until_direct().startswith(f"{OUTSIDE}:")
    kept = home.router.mappings()
    assert f"mapped to {OUTSIDE}:" in home.h1.tnet("debug", "portmap", f"--type={protocol}").stdout
    until("only the daemon's again", lambda: home.router.mappings() == kept, 5)
    assert home.h1.stop() == 0
    assert home.router.mappings() == set()
    home.restart_daemon(lab)


def spoken(host: Host) -> dict[str, bool]:
    """What ``tnet netcheck`` finds the router to speak."""
    said = json.loads(host.tnet("netcheck", "--format=json").stdout)
    return {name: said[name] for name in ("UPnP", "PMP", "PCP")}


def test_netcheck_asks_the_router_what_it_speaks(mapping: Home) -> None:
    """Anew, after some seconds; in words too."""
    assert spoken(mapping.h1) == {"UPnP": True, "PMP": True, "PCP": True}
    mapping.router.speak("pcp")
    until("another answer", lambda: not spoken(mapping.h1)["UPnP"], 20)
    assert spoken(mapping.h1) == {"UPnP": False, "PMP": False, "PCP": True}
    assert "* PortMapping: PCP\n" in mapping.h1.tnet("netcheck").stdout


def test_control_can_forbid_upnp(home: Home, lab: Lab) -> None:
    """By an attribute of the node; what was mapped so is given back, and mapped again after."""
    home.router.stop()
    home.router.reset()
    home.router.start()
    home.router.speak("upnp")
    home.h1.tnet("down")
    home.h1.tnet("up")
    home.until_mapped()
    lab.admin("set-attributes", name="h1", attributes=["debug-disable-upnp"])
    until("the mapping to go", lambda: not home.router.mappings(), 10)
    assert "UPnP       not asked" in home.h1.tnet("debug", "portmap").stdout
    lab.admin("set-attributes", name="h1", attributes=[])
    home.until_mapped()


def test_down_gives_the_mapping_back_and_up_asks_for_it(mapping: Home) -> None:
    """A node that nobody may reach needs none."""
    mapping.h1.tnet("down")
    until("the mapping to go", lambda: not mapping.router.mappings(), 5)
    mapping.h1.tnet("up")
    mapping.until_mapped()


def test_a_lease_is_renewed_before_it_ends(home: Home) -> None:
    """Through several leases of a few seconds, by PCP, without a gap of a second."""
    home.router.stop()
    home.router.reset()
    home.router.start(longest=LEASE)
    home.router.speak("pcp")
    home.h1.tnet("down")
    home.h1.tnet("up")
    port = home.until_mapped()
    grants = f"leads to port {PORT} for {LEASE} s"
    before = home.h1.log.read_text().count(grants)

    def renewed() -> bool:
        until("no gap of a second", lambda: home.router.mappings() == {port}, 1)
        return home.h1.log.read_text().count(grants) >= before + 4

    until("four renewals", renewed, 5 * LEASE, every=0.1)
    home.router.stop()
    gone = "the lease of"
    until("the lease to end", lambda: gone in home.h1.log.read_text(), 3 * LEASE)


def test_our_log_is_clean(home: Home) -> None:
    """Nothing of the above left a traceback."""
    assert "Traceback" not in home.h1.log.read_text()
