"""IPv4 networks with the same addresses, told apart by IPv6 (4via6), each behind a router of ours.

::

    h1 ── bridge: control, DERP, STUN ──┬─ h2 (10.1.0.1) ── far 10.1.0.5, site 2
                                        └─ h3 (10.1.0.1) ── far 10.1.0.5, site 3

Neither router forwards anything in its kernel.  With ``TAILSCALED`` set a Go node asks as well.
"""

import re
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import Process, run
from integration.lab.routing import named
from integration.lab.tailscaled import Tailscaled
from integration.lab.topology import flat
from integration.lab.waiting import until

from tailnet.agent.addr import via

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

PORT, BULK = 7007, 20_000_000
EVERYTHING = [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}]
# Everybody may ask site 2, and nobody site 3.
ONE_SITE = [
    {
        "SrcIPs": ["*"],
        "DstPorts": [
            {"IP": "fd7a:115c:a1e0:b1a:0:2::/96", "Ports": {"First": 0, "Last": 65535}},
        ],
    }
]
# Says where it is and who asks, by TCP and by UDP; port 7008 sends much.
SERVE = f"""
import socketserver, sys, threading
class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(f"{{sys.argv[1]}} {{self.client_address[0]}}\\n".encode())
class Bulk(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(bytes({BULK}))
class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(sys.argv[1].encode() + b" " + data, self.client_address)
socketserver.ThreadingTCPServer.allow_reuse_address = True
for server in (
    socketserver.ThreadingTCPServer(("", {PORT}), Tcp),
    socketserver.ThreadingTCPServer(("", {PORT + 1}), Bulk),
    socketserver.UDPServer(("", {PORT}), Udp),
):
    threading.Thread(target=server.serve_forever).start()
"""
ASK_TCP = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as sock:
        total, last = 0, b""
        while data := sock.recv(1 << 16):
            total, last = total + len(data), data
    print(last[-40:].decode().strip() if total < 100 else total)
except OSError as error:
    print(type(error).__name__)
"""
ASK_UDP = """
import socket, sys
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
    sock.settimeout(2)
    sock.connect((sys.argv[1], int(sys.argv[2])))
    try:
        sock.send(b"x" * int(sys.argv[3]))
        data = sock.recv(70000)
        print(data[:6].decode(), len(data) - 7)
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture(scope="module", params=["native", "reference"])
def lab(request: pytest.FixtureRequest, make_lab: MakeLab) -> Iterator[Lab]:
    """The sites are namespaces, which go with the lab; their servers too."""
    lab = make_lab(flat("h1", "h2", "h3"))
    tag = lab.hosts["h1"].namespace.rpartition("-")[0]
    servers = []
    for name in ("h2", "h3"):
        router, far = lab.hosts[name], f"{tag}-far{name}"
        run(["ip", "netns", "add", far])
        link = ["link", "add", "lan0", "type", "veth", "peer", "eth0", "netns", far]
        run(["ip", "-n", router.namespace, *link])
        for ns, device, last in ((router.namespace, "lan0", 1), (far, "eth0", 5)):
            run(["ip", "-n", ns, "address", "add", f"10.1.0.{last}/16", "dev", device])
            run(["ip", "-n", ns, "link", "set", device, "up"])
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            router.exec("sysctl", "-qw", f"{key}=0")
        server = Process(
            f"server-{far}",
            [sys.executable, "-c", SERVE, f"site {name[1]}"],
            router.directory / "server.log",
            namespace=far,
        )
        servers.append(server)
    for host in lab.hosts.values():
        host.start(f"--datapath={request.param}")
    lab.hosts["h1"].up(AUTH_KEY)
    lab.hosts["h1"].tnet("set", "--accept-routes")
    for name in ("h2", "h3"):
        lab.hosts[name].up(AUTH_KEY, f"--advertise-routes={site(int(name[1]))}")
    lab.wait_complete()
    yield lab
    for server in servers:
        server.kill()


def site(number: int) -> str:
    """Its prefix."""
    return str(via(number, IPv4Network("10.1.0.0/16")))


def at(number: int, address: str = "10.1.0.5") -> str:
    """An address in a site, for others."""
    return str(via(number, IPv4Network(f"{address}/32")).network_address)


def tcp(host: Host, address: str, port: int = PORT) -> str:
    """What a server says, how much if it is much, or the error."""
    return host.exec(sys.executable, "-c", ASK_TCP, address, str(port)).stdout.strip()


def udp(host: Host, address: str, size: int, port: int = PORT) -> str:
    """Who answers, and with how much; or the error."""
    return host.exec(sys.executable, "-c", ASK_UDP, address, str(port), str(size)).stdout.strip()


def ping(host: Host, address: str, size: int = 56) -> bool:
    """It is answered."""
    done = host.exec("ping", "-n", "-c1", "-W2", "-s", str(size), address, check=False)
    return done.returncode == 0


def until_reached(host: Host, number: int) -> None:
    """Its server answers, and saw the router."""
    wanted = f"site {number} 10.1.0.1"
    until(wanted, lambda: tcp(host, at(number)) == wanted, 20.0)


def stacks(host: Host) -> int:
    """Threads of the daemon that are one."""
    tasks = Path(f"/proc/{host.running.pid}/task").glob("*/comm")
    return sum(task.read_text() == "netstack\n" for task in tasks)


def test_the_same_address_of_two_sites_is_two_hosts(lab: Lab) -> None:
    """By TCP, UDP and ping; hosts there see the router, which forwards nothing in its kernel."""
    here = lab.hosts["h1"]
    for number in (2, 3):
        who = f"site {number}"
        until_reached(here, number)
        assert udp(here, at(number), 100) == f"{who} 100"
        assert udp(here, at(number), 4000) == f"{who} 4000"  # in fragments
        assert ping(here, at(number))
        assert ping(here, at(number), 3000)
        router = lab.hosts[f"h{number}"]
        assert router.exec("sysctl", "-n", "net.ipv6.conf.all.forwarding").stdout == "0\n"
        warned = router.tnet("status").stdout + router.tnet("debug", "health", check=False).stdout
        assert "forwarding" not in warned
    assert tcp(here, at(2), PORT + 1) == str(BULK)


def test_what_is_not_there_is_told(lab: Lab) -> None:
    """A closed port refuses; a host that is not there, and another site, are no hosts."""
    here = lab.hosts["h1"]
    assert tcp(here, at(2), 9) == "ConnectionRefusedError"
    assert udp(here, at(2), 10, port=9) == "ConnectionRefusedError"
    assert not ping(here, at(2, "10.1.0.77"))
    assert not ping(here, at(4))


def test_nothing_inside_the_router_is_reached(lab: Lab) -> None:
    """Whatever it announces: neither its loopback, nor addresses of the tailnet."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    there.spawn("inside", sys.executable, "-m", "http.server", "8080", "--bind", "127.0.0.1")
    there.tnet("set", "--advertise-routes=fd7a:115c:a1e0:b1a:0:2::/96")
    route = ("ip", "-6", "route", "show", "table", "52")
    until("the route", lambda: ":2::/96" in here.exec(*route).stdout, 10.0)
    until_reached(here, 2)
    for address in ("127.0.0.1", "169.254.169.254", str(here.ipv4), "100.100.100.100"):
        assert tcp(here, at(2, address), 8080) not in {"", "site 2 10.1.0.1"}
        assert not ping(here, at(2, address))
    there.tnet("set", f"--advertise-routes={site(2)}")
    until("as before", lambda: ":2::/96" not in here.exec(*route).stdout, 10.0)


def test_names_of_sites_resolve(lab: Lab) -> None:
    """As upstream's: the address with dashes, ``via``, the site."""
    here = lab.hosts["h1"]
    said = here.tnet("dns", "query", "10-1-0-5-via-3", "AAAA").stdout
    assert at(3) in said
    suffix = re.search(r"10-1-0-5-via-3\.(\S+?)\.?\s", said)
    name = f"10-1-0-5-via-3.{suffix[1]}" if suffix else "10-1-0-5-via-3"
    asked = here.exec("dig", "+short", "AAAA", name, "@100.100.100.100", check=False)
    assert asked.returncode or at(3) in asked.stdout


def test_rules_of_the_tailnet_hold_for_sites(lab: Lab) -> None:
    """The router lets in what they allow, and nothing else."""
    here = lab.hosts["h1"]
    lab.admin("set-filter", rules=ONE_SITE)
    until("the rules", lambda: not ping(here, at(3)), 10.0)
    assert "site" not in tcp(here, at(3))
    assert tcp(here, at(2)) == "site 2 10.1.0.1"
    lab.admin("set-filter", rules=EVERYTHING)
    until("the rules", lambda: ping(here, at(3)), 10.0)


def test_a_trace_tells_the_site_the_router_and_the_address_behind(lab: Lab) -> None:
    """By address and by name, from the client; on the router, that it is its own."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    behind = f"to h2: it is the router of {site(2)}, which asks 10.1.0.5 of site 2\n"
    for name in (at(2), "10-1-0-5-via-2"):
        said = here.tnet("trace", name)
        assert f"packets to {at(2)} go {behind}" in said.stdout
        assert "STOP" not in said.stdout
    own = there.tnet("trace", at(2), check=False).stdout
    assert f"this machine itself is the router of {site(2)}, which asks 10.1.0.5 of site 2" in own
    assert f"has {at(4)} now" in here.tnet("trace", at(4), check=False).stdout


def test_without_a_device_a_node_is_router_and_client_of_sites(lab: Lab) -> None:
    """By TCP, UDP and ping from others, and by its own proxy; with no device and no forwarding."""
    pytest.importorskip("tailnet_native", reason="userspace networking needs the native extension")
    here, there = lab.hosts["h1"], lab.hosts["h3"]
    there.stop()
    there.start("--tun=userspace-networking", "--socks5-server=127.0.0.1:1055")
    there.wait_running(20.0)
    assert "tailnet0" not in there.exec("ip", "-o", "link").stdout
    until_reached(here, 3)
    assert udp(here, at(3), 4000) == "site 3 4000"
    assert ping(here, at(3), 3000)
    assert tcp(here, at(3), PORT + 1) == str(BULK)
    assert tcp(here, at(3), 9) == "ConnectionRefusedError"
    proxy = ("curl", "-sS", "--max-time", "10", "--socks5", "127.0.0.1:1055")
    said = there.exec(*proxy, f"telnet://[{at(2)}]:{PORT}").stdout
    assert said == "site 2 10.1.0.1\n"
    there.stop()
    there.start()
    until_reached(here, 3)


def test_a_go_node_reaches_both_sites(lab: Lab) -> None:
    """As a client of our routers."""
    program = named()
    if program is None:
        pytest.skip("TAILSCALED names no program")
    here = lab.hosts["h1"]
    here.stop()
    go = Tailscaled(here, program)
    try:
        go.up()
        go.ask("set", "--accept-routes")
        for number in (2, 3):
            who = f"site {number}"
            until_reached(here, number)
            assert udp(here, at(number), 100) == f"{who} 100"
            assert ping(here, at(number))
        assert tcp(here, at(2), PORT + 1) == str(BULK)
    finally:
        go.process.stop()
        here.start()
        here.wait_running()


def test_a_site_that_is_not_announced_any_more_is_closed(lab: Lab) -> None:
    """Its stack goes, and comes again; a stop leaves no thread and no socket behind."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    until("the site", lambda: ping(here, at(2)), 10.0)
    before = stacks(there)
    there.tnet("set", "--advertise-routes=")
    until("its end", lambda: stacks(there) == before - 1, 10.0)
    assert not ping(here, at(2))
    there.tnet("set", f"--advertise-routes={site(2)}")
    until_reached(here, 2)
