"""An exit node without privilege: ``--tun=userspace-networking --advertise-exit-node``.

::

    h1 (TUN) ── bridge ── h2 (exit, user 65534: no device, no forwarding, no capability)
                  └── "the internet" 203.0.113.1, 2001:db8:ffff::1: a server and pings

h1 counts what would leave its own link towards the internet; h2 may have ICMP sockets.  From the
internet no way leads back to the tailnet's addresses: what it answers came from h2's own.
"""

import re
import sys
from collections.abc import Iterator

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.measure import wait_until_logged
from integration.lab.process import Process, run
from integration.lab.topology import flat
from integration.lab.waiting import until

pytest.importorskip("tailnet_native", reason="userspace networking needs the native extension")

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

NOBODY = 65534
INTERNET = ("203.0.113.1", "2001:db8:ffff::1")
ECHO = 7000
PROBE = """
table inet probe {
	chain post {
		type filter hook postrouting priority 300;
		oifname "eth0" ip daddr 203.0.113.1 counter
		oifname "eth0" ip6 daddr 2001:db8:ffff::1 counter
	}
}
"""
TCP_ROUND = """
import socket, sys
host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.create_connection((host, port), 5) as sock:
    got = 0
    for _ in range(size // 1000):
        sock.sendall(bytes(1000))
        got += len(sock.recv(1000, socket.MSG_WAITALL))
    sock.shutdown(socket.SHUT_WR)
    print(got, sock.recv(1) == b"")
"""
UDP_ROUND = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sock:
    sock.settimeout(5)
    sock.connect((sys.argv[1], int(sys.argv[2])))
    sock.send(bytes(int(sys.argv[3])))
    print(len(sock.recv(9999)))
"""

BROADCAST = """
import socket
from tests.support.packets import tcp, udp
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
link.bind(("tailnet0", 0x0800))
for packet in (tcp(SRC, DST, flags=2), udp(SRC, DST, b"all")):
    link.send(packet)
print("sent")
"""


def inet(lab: Lab) -> str:
    """The namespace that plays the internet."""
    return f"{lab.hosts['h1'].namespace.rpartition('-')[0]}-inet"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Iterator[Lab]:
    """h1 uses h2 as its exit node; a server runs in the internet."""
    lab = make_lab(flat("h1", "h2"))
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    for address in INTERNET:
        width = "128" if ":" in address else "32"
        run(["ip", "-n", inet(lab), "address", "add", f"{address}/{width}", "dev", "lo"])
    for host in lab.hosts.values():
        host.exec("ip", "route", "add", "default", "via", "10.99.0.1")
        host.exec("ip", "-6", "route", "add", "default", "via", "fd99::1")
    there.exec("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
    run(["nft", "-f", "-"], namespace=here.namespace, feed=PROBE)
    words = [sys.executable, "-u", "-m", "integration.lab.proxied", "serve", str(ECHO), *INTERNET]
    server = Process("internet", words, lab.directory / "internet.log", namespace=inet(lab))
    try:
        wait_until_logged(server, "listening")
        here.start()
        there.start("--tun=userspace-networking", user=NOBODY)
        here.up(AUTH_KEY)
        there.up(AUTH_KEY, "--advertise-exit-node")
        lab.wait_complete()
        until("the offer", lambda: offered(here), 10.0)
        here.tnet("set", "--exit-node=h2")
        until("the way through", lambda: pinged(here, INTERNET[0]), 10.0)
        yield lab
    finally:
        server.kill()


def offered(host: Host) -> bool:
    """It can be chosen."""
    return host.tnet("exit-node", "list", check=False).returncode == 0


def pinged(host: Host, address: str, size: int = 56) -> bool:
    """One ping with so much data is answered."""
    words = ("ping", "-n", "-c1", "-W2", "-s", str(size), address)
    return host.exec(*words, check=False).returncode == 0


def leaked(host: Host) -> int:
    """Packets for the internet that left by the link."""
    listed = host.exec("nft", "list", "table", "inet", "probe").stdout
    return sum(map(int, re.findall(r"packets (\d+)", listed)))


def said(host: Host, program: str, *words: object) -> str:
    """What a small program prints."""
    return host.exec(sys.executable, "-c", program, *map(str, words), timeout=20).stdout.strip()


@pytest.mark.parametrize("address", INTERNET)
def test_tcp_reaches_the_internet_through_it(lab: Lab, address: str) -> None:
    """A megabyte there and back; the end of one side is the end of the other."""
    here = lab.hosts["h1"]
    before = leaked(here)
    assert said(here, TCP_ROUND, address, ECHO, 1_000_000) == "1000000 True"
    assert leaked(here) == before


@pytest.mark.parametrize("address", INTERNET)
def test_udp_reaches_the_internet_through_it(lab: Lab, address: str) -> None:
    """Also what is larger than a packet."""
    here = lab.hosts["h1"]
    before = leaked(here)
    for size in (1, 1200, 9000):
        assert said(here, UDP_ROUND, address, ECHO, size) == str(size)
    assert leaked(here) == before


@pytest.mark.parametrize("address", INTERNET)
def test_pings_reach_the_internet_through_it(lab: Lab, address: str) -> None:
    """The answer is the internet's: nobody answers for an address that is not there."""
    here = lab.hosts["h1"]
    before = leaked(here)
    for size in (0, 56, 1400):
        assert pinged(here, address, size)
    assert not pinged(here, "203.0.113.77")
    assert leaked(here) == before


@pytest.mark.parametrize("address", INTERNET)
def test_refusals_of_the_internet_are_passed_on(lab: Lab, address: str) -> None:
    """By TCP and by UDP."""
    here = lab.hosts["h1"]
    for program in (TCP_ROUND, UDP_ROUND):
        words = (sys.executable, "-c", program, address, "9", "1000")
        assert "ConnectionRefusedError" in here.exec(*words, check=False).stderr


def test_its_own_network_and_loopback_are_no_part_of_the_internet(lab: Lab) -> None:
    """A guest of the exit node does not see what lies around it."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    serve = (sys.executable, "-u", "-m", "integration.lab.proxied", "serve", str(ECHO))
    server = there.spawn("local", *serve)
    wait_until_logged(server, "listening")
    assert not pinged(here, "10.99.0.1")
    assert not pinged(here, "fd99::1")
    for address in ("10.99.0.1", "127.0.0.1"):
        words = (sys.executable, "-c", TCP_ROUND, address, str(ECHO), "1000")
        assert here.exec(*words, check=False).returncode != 0
    assert said(here, TCP_ROUND, there.ipv4, ECHO, 1000) == "1000 True"


def test_a_broadcast_address_is_no_host_to_connect_to(lab: Lab) -> None:
    """Whoever sends there loses the packet, and the others notice nothing."""
    here = lab.hosts["h1"]
    ends = f"SRC, DST = {str(here.ipv4)!r}, '255.255.255.255'\n"
    assert said(here, ends + BROADCAST) == "sent"
    assert pinged(here, INTERNET[0])
    assert said(here, TCP_ROUND, INTERNET[0], ECHO, 1000) == "1000 True"


def test_the_offer_can_be_withdrawn(lab: Lab) -> None:
    """What was open goes nowhere any more, and nothing leaks."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    before = leaked(here)
    there.tnet("set", "--advertise-exit-node=false")
    until("the end", lambda: not pinged(here, INTERNET[0]), 10.0)
    words = (sys.executable, "-c", TCP_ROUND, INTERNET[0], str(ECHO), "1000")
    assert here.exec(*words, check=False).returncode != 0
    assert leaked(here) == before
    there.tnet("set", "--advertise-exit-node")
    until("the way through", lambda: pinged(here, INTERNET[0]), 10.0)
