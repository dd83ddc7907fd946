"""Two exit nodes: which one is meant, and what happens when it goes.

::

    h1 ── bridge: control, DERP, STUN; a server at 203.0.113.1 ─┬─ h2 (exit node)
                                                                └─ h3 (exit node)

The server says from where it is asked; h1 counts what would leave its link past the tunnel.
"""

import re
import sys
from collections.abc import Iterator

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import Process, run
from integration.lab.routing import SERVE
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

INTERNET = "203.0.113.1"
PROBE = """
table inet probe {
	chain post {
		type filter hook postrouting priority 300;
		oifname "eth0" ip daddr 203.0.113.1 counter
	}
}
"""
ASK = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], 7007), 2) as sock:
        print(sock.recv(100).decode().strip())
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Iterator[Lab]:
    """Both offer; none is used yet."""
    lab = make_lab(flat("h1", "h2", "h3"))
    here = lab.hosts["h1"]
    inet = f"{here.namespace.rpartition('-')[0]}-inet"
    run(["ip", "-n", inet, "address", "add", f"{INTERNET}/32", "dev", "lo"])
    words = [sys.executable, "-c", SERVE]
    server = Process("internet", words, lab.directory / "internet.log", namespace=inet)
    for host in lab.hosts.values():
        host.exec("ip", "route", "add", "default", "via", "10.99.0.1")
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            host.exec("sysctl", "-qw", f"{key}=1")
        host.start()
    run(["nft", "-f", "-"], namespace=here.namespace, feed=PROBE)
    here.up(AUTH_KEY)
    for name in ("h2", "h3"):
        lab.hosts[name].up(AUTH_KEY, "--advertise-exit-node")
    lab.wait_complete()
    until("both offers", lambda: here.tnet("exit-node", "list").stdout.count(".lab") == 2, 10.0)
    yield lab
    server.kill()


def seen_as(host: Host) -> str:
    """Where the server says that it is asked from."""
    return host.exec(sys.executable, "-c", ASK, INTERNET).stdout.strip()


def leaked(host: Host) -> int:
    """Packets for the server that left by the link."""
    listed = host.exec("nft", "list", "table", "inet", "probe").stdout
    return sum(map(int, re.findall(r"packets (\d+)", listed)))


@pytest.mark.parametrize("form", ["name", "full name", "IPv4", "IPv6"])
@pytest.mark.parametrize("name", ["h2", "h3"])
def test_it_is_meant_by_name_or_address(lab: Lab, form: str, name: str) -> None:
    """Whichever it is, it is the one that the server sees."""
    here, there = lab.hosts["h1"], lab.hosts[name]
    words = {"name": name, "full name": f"{name}.lab.ts.net"}
    words |= {"IPv4": str(there.ipv4), "IPv6": str(there.ipv6)}
    here.tnet("set", f"--exit-node={words[form]}")
    until("its address", lambda: seen_as(here) == str(there.underlay), 10.0)


def test_an_automatic_one_that_goes_is_another_one_and_nothing_leaks(lab: Lab) -> None:
    """Nobody types anything; with none left, nothing goes anywhere."""
    here, *both = lab.hosts.values()
    here.tnet("set", "--exit-node=auto:any")
    until("one of them", lambda: seen_as(here) in {str(host.underlay) for host in both}, 10.0)
    before, used = leaked(here), seen_as(here)
    first, second = sorted(both, key=lambda host: str(host.underlay) != used)
    first.kill9()
    until("the second", lambda: seen_as(here) == str(second.underlay), 30.0)
    second.stop()
    assert seen_as(here) not in {str(host.underlay) for host in lab.hosts.values()}
    second.start()
    second.wait_running(20.0)
    until("the second", lambda: seen_as(here) == str(second.underlay), 30.0)
    first.start()
    first.wait_running(20.0)
    until("the first back", lambda: bool((here.peer(first.name) or {}).get("Online")), 20.0)
    assert seen_as(here) == str(second.underlay), "left for one that is no better"
    assert f"--exit-node={second.name}." in here.tnet("exit-node", "suggest").stdout
    assert leaked(here) == before


def test_one_that_offers_no_more_is_missed_and_not_replaced(lab: Lab) -> None:
    """It was meant by name: health says so, nothing leaks, and it is used again with the offer."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    here.tnet("set", "--exit-node=h2")
    until("it", lambda: seen_as(here) == str(there.underlay), 10.0)
    before = leaked(here)
    there.tnet("set", "--advertise-exit-node=false")
    until("the warning", lambda: "exit node" in "".join(here.status()["Health"] or ()), 10.0)
    assert seen_as(here) not in {str(host.underlay) for host in lab.hosts.values()}
    there.tnet("set", "--advertise-exit-node")
    until("it again", lambda: seen_as(here) == str(there.underlay), 10.0)
    assert leaked(here) == before
    assert not here.status()["Health"]


def test_what_cannot_be_meant_is_refused_and_the_old_one_stays(lab: Lab) -> None:
    """One line each."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    for flag, said in (
        ("--exit-node=nobody", "no peer found: nobody; see: tnet status"),
        ("--exit-node=198.51.100.1", "no peer found: 198.51.100.1; see: tnet status"),
        ("--exit-node=auto:some", "bad automatic exit node 'some': only any is known"),
        (
            "--advertise-exit-node",
            "a machine cannot be an exit node and use one; set --exit-node= first",
        ),
    ):
        refused = here.tnet("set", flag, check=False)
        assert (refused.returncode, refused.stderr) == (1, f"{said}\n")
    assert seen_as(here) == str(there.underlay)
