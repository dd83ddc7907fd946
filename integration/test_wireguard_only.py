"""A host of plain WireGuard with several addresses, one of them nobody's; it is an exit node.

::

    h1 ── bridge: control; "the internet" 203.0.113.1, 2001:db8:ffff::1 ── wg, wireguard-go
                                                                           10.99.0.12 and .150
Control tells 10.99.0.200 too.
"""

import re
import shutil
import sys
from functools import partial

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.foreign import WG_PORT, WireGuard
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.measure import wait_until_logged
from integration.lab.process import run
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

SECOND, NOBODY = "10.99.0.150", "10.99.0.200"
GONE = """\
table ip gone {
	chain input {
		type filter hook input priority 0;
		ip daddr %s drop
	}
}
"""
INTERNET = ("203.0.113.1", "2001:db8:ffff::1")
EXIT = """\
table inet exit {
	chain forward {
		type filter hook forward priority 0;
		ip saddr %s ip daddr 203.0.113.1 counter
		ip6 saddr %s ip6 daddr 2001:db8:ffff::1 counter
	}
	chain post {
		type nat hook postrouting priority srcnat;
		oifname "eth0" masquerade
	}
}
"""
PASSED_BY = """\
table inet probe {
	chain post {
		type filter hook postrouting priority 300;
		oifname "eth0" ip daddr 203.0.113.1 counter
		oifname "eth0" ip6 daddr 2001:db8:ffff::1 counter
	}
}
"""
SAY_HELLO = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 9) as sock:
    sock.sendall(b"hello")
    sock.shutdown(socket.SHUT_WR)
    print(sock.makefile().read())
"""
TIMEOUT = 30.0  # seconds for a way that works


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """h1 is joined."""
    if not (shutil.which("wireguard-go") and shutil.which("wg")):
        cannot("wireguard-go is not installed")
    lab = make_lab(flat("h1", "wg"))
    inet = lab.network.namespace("inet")
    for address in INTERNET:
        run(["ip", "-n", inet, "address", "add", address, "dev", "lo"])
    for host in lab.hosts.values():
        host.exec("ip", "route", "add", "default", "via", "10.99.0.1")
        host.exec("ip", "-6", "route", "add", "default", "via", "fd99::1")
    lab.join("h1")
    return lab


@pytest.fixture(scope="module")
def plain(lab: Lab) -> WireGuard:
    """The host, told to control with three addresses."""
    lab.hosts["wg"].exec("ip", "address", "add", f"{SECOND}/24", "dev", "eth0")
    plain = WireGuard(lab, lab.hosts["wg"], lab.hosts["h1"])
    plain.more = (NOBODY, SECOND)
    plain.routes = ("0.0.0.0/0", "::/0")
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        lab.hosts["wg"].exec("sysctl", "-qw", f"{name}=1")
    plain.start()
    one = lab.hosts["h1"]
    rules = EXIT % (one.ipv4, one.ipv6)
    run(["nft", "-f", "-"], namespace=lab.hosts["wg"].namespace, feed=rules)
    run(["nft", "-f", "-"], namespace=one.namespace, feed=PASSED_BY)
    return plain


def answers(host: Host, ip: str) -> bool:
    """One ping of the host's kernel."""
    return host.ping_os(ip, count=1, wait=1).received == 1


def counted(lab: Lab, name: str, table: str) -> list[int]:
    """Packets for the internet that a table of a host saw: of IPv4, and of IPv6."""
    listed = lab.hosts[name].exec("nft", "list", "table", "inet", table).stdout
    return list(map(int, re.findall(r"packets (\d+)", listed)))


def reached(lab: Lab, plain: WireGuard) -> str:
    """The address that pings of h1 go to, once they are answered."""
    one = lab.hosts["h1"]
    until("a ping", lambda: one.ping_os(plain.address, count=1, wait=1).received, TIMEOUT)
    return one.path_to("wg").removesuffix(f":{WG_PORT}")


def test_an_address_that_answers_is_found(lab: Lab, plain: WireGuard) -> None:
    """Without disco, by ICMP; while the host is heard, its address stays and nobody is asked."""
    used = reached(lab, plain)
    assert used in {SECOND, str(lab.hosts["wg"].underlay)}
    assert lab.hosts["h1"].ping_os(plain.address, count=20, interval=0.2).lost == 0
    assert lab.hosts["h1"].path_to("wg") == f"{used}:{WG_PORT}"


def test_an_address_that_dies_is_left(lab: Lab, plain: WireGuard) -> None:
    """The host is silent there, to WireGuard and to ICMP; the other address takes over."""
    used = reached(lab, plain)
    run(["nft", "-f", "-"], namespace=lab.hosts["wg"].namespace, feed=GONE % used)
    other = reached(lab, plain)
    assert other in {SECOND, str(lab.hosts["wg"].underlay)} - {used}
    lab.hosts["wg"].exec("nft", "delete table ip gone")
    assert lab.hosts["h1"].ping_os(plain.address, count=3).lost == 0


@pytest.mark.usefixtures("plain")
def test_it_leads_to_the_internet(lab: Lab) -> None:
    """As an exit node, by IPv4 and IPv6; nothing passes by it until it is given up."""
    one = lab.hosts["h1"]
    assert "wg" in one.tnet("exit-node", "list").stdout
    one.tnet("set", "--exit-node=wg")
    for ip in INTERNET:
        until(f"{ip} through wg", partial(answers, one, ip), TIMEOUT)
    before = counted(lab, "wg", "exit")
    passed = counted(lab, "h1", "probe")
    for ip in INTERNET:
        assert one.ping_os(ip, count=5).lost == 0
    assert counted(lab, "wg", "exit") == [count + 5 for count in before]
    assert counted(lab, "h1", "probe") == passed
    assert one.status()["ExitNodeStatus"]["Online"]
    one.tnet("set", "--exit-node=")
    for ip in INTERNET:
        until(f"{ip} by the link", partial(answers, one, ip), TIMEOUT)
    passed = counted(lab, "h1", "probe")
    for ip in INTERNET:
        assert one.ping_os(ip, count=2).lost == 0
    assert counted(lab, "wg", "exit") == [count + 5 for count in before]
    assert counted(lab, "h1", "probe") == [count + 2 for count in passed]


def test_it_may_know_us_by_other_addresses(lab: Lab, plain: WireGuard) -> None:
    """As commercial exit nodes do: ours never arrive there, answers come to our own."""
    one, others = lab.hosts["h1"], ("10.64.9.9", "fd64::99")
    plain.know_us_as(others)
    wg = lab.hosts["wg"]
    table = EXIT.replace("inet exit", "inet others").replace("srcnat", "200") % others
    run(["nft", "-f", "-"], namespace=wg.namespace, feed=table)
    until("a ping", lambda: answers(one, plain.address), TIMEOUT)
    assert one.exec("curl", "-sS", "--max-time", "9", f"http://{plain.address}/hello").stdout
    one.tnet("set", "--exit-node=wg")
    for ip in INTERNET:
        until(f"{ip} through wg", partial(answers, one, ip), TIMEOUT)
    by_own, by_others = counted(lab, "wg", "exit"), counted(lab, "wg", "others")
    for ip in INTERNET:
        assert one.ping_os(ip, count=3).lost == 0
    assert counted(lab, "wg", "exit") == by_own
    assert counted(lab, "wg", "others") == [count + 3 for count in by_others]
    one.tnet("set", "--exit-node=")


def test_it_may_know_a_userspace_stack_by_other_addresses(lab: Lab, plain: WireGuard) -> None:
    """The same host without a device: its stack has its own addresses, the peer sees the others."""
    pytest.importorskip("tailnet_native", reason="userspace networking needs the native extension")
    one, wg, others = lab.hosts["h1"], lab.hosts["wg"], ("10.64.9.9", "fd64::99")
    plain.know_us_as(others)
    assert one.stop() == 0
    one.start("--tun=userspace-networking", "--socks5-server=127.0.0.1:1055")
    there = f"http://{plain.address}/hello"
    words = ("curl", "-sS", "--max-time", "3", "--socks5-hostname", "127.0.0.1:1055", there)
    until("its web", lambda: one.exec(*words, check=False).stdout == "hello\n", TIMEOUT)
    serve = [sys.executable, "-u", "-m", "integration.lab.proxied", "serve", "7000"]
    wait_until_logged(one.spawn("echo", *serve), "listening")
    said = wg.exec(sys.executable, "-c", SAY_HELLO, others[0], "7000", timeout=20).stdout
    assert said == "hello\n"
    assert wg.ping_os(others[0], count=2).lost == 0


def test_our_log_is_clean(lab: Lab) -> None:
    """Nothing of the above left a traceback."""
    assert "Traceback" not in lab.hosts["h1"].log.read_text()
