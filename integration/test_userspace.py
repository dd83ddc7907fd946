"""Hosts without a TUN device, and one with: ``--tun=userspace-networking``.

::

    h1 (user 65534: SOCKS5 and HTTP proxy, servers on 127.0.0.1) ── h2 (TUN) ── h3 (root)

h1 may have ICMP sockets and nothing else; h3 may not and runs ``ping``.  Both announce a subnet, h2
two whose packets it refuses.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.measure import wait_until_logged
from integration.lab.topology import flat
from integration.lab.waiting import until

pytest.importorskip("tailnet_native", reason="userspace networking needs the native extension")

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

NOBODY = 65534
PROXY = "127.0.0.1:1055"
ROUTES = "10.55.0.0/24,fd55::/64"
BEHIND = ("10.55.0.1", "fd55::1")  # a server in the subnets h1 announces
BEHIND3 = "10.56.0.1"  # in the subnet h3 announces
UNREACHABLE, PROHIBITED = "10.66.0.9", "10.67.0.9"  # behind h2, which says so
WEB, ECHO, LOCAL = 8000, 7000, 7001
SAY_HELLO = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as sock:
    sock.sendall(b"hello")
    sock.shutdown(socket.SHUT_WR)
    print(sock.makefile().read())
"""
SEND_HELLO = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sock:
    sock.settimeout(5)
    sock.connect((sys.argv[1], int(sys.argv[2])))
    sock.send(b"hello")
    print(sock.recv(99))
"""
SEND_MUCH = SEND_HELLO.replace('b"hello"', "bytes(9000)").replace(
    "print(sock.recv(99))", "print(sock.recv(9999) == bytes(9000))"
)
TEXT = "what h2 serves\n" * 1000


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Both joined, their servers running."""
    lab = make_lab(flat("h1", "h2", "h3"))
    one, two, three = (lab.hosts[name] for name in ("h1", "h2", "h3"))
    proxies = (f"--socks5-server={PROXY}", f"--outbound-http-proxy-listen={PROXY}")
    one.start("--tun=userspace-networking", *proxies, user=NOBODY)
    two.start()
    three.start("--tun=userspace-networking")
    one.exec("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
    two.exec("sysctl", "-qw", "net.ipv4.ip_forward=1")
    two.exec("ip", "route", "add", "unreachable", f"{UNREACHABLE}/32")
    two.exec("ip", "route", "add", "prohibit", f"{PROHIBITED}/32")
    three.exec("ip", "address", "add", f"{BEHIND3}/32", "dev", "lo")
    one.exec("ip", "address", "add", f"{BEHIND[0]}/32", "dev", "lo")
    one.exec("ip", "address", "add", f"{BEHIND[1]}/128", "dev", "lo")
    one.up(AUTH_KEY, f"--advertise-routes={ROUTES}")
    two.up(AUTH_KEY, f"--advertise-routes={UNREACHABLE}/32,{PROHIBITED}/32")
    three.up(AUTH_KEY, f"--advertise-routes={BEHIND3}/32")
    lab.wait_complete()
    www = two.directory / "www"
    www.mkdir()
    (www / "text").write_text(TEXT)
    serve(two, "web", "http.server", str(WEB), "--bind", "::", "--directory", str(www))
    serve(two, "echo", "integration.lab.proxied", "serve", str(ECHO))
    serve(one, "local", "integration.lab.proxied", "serve", str(LOCAL))
    return lab


def serve(host: Host, name: str, *module: str) -> None:
    """Run a Python module until the lab ends; return when it listens."""
    process = host.spawn(name, sys.executable, "-u", "-m", *module)
    wait_until_logged(process, "erving" if "http.server" in module else "listening")


def proxied(host: Host, *words: object) -> dict[str, Any]:
    """What a client of ``integration.lab.proxied`` says."""
    command = [sys.executable, "-m", "integration.lab.proxied", *map(str, words)]
    answer: dict[str, Any] = json.loads(host.exec(*command, timeout=60).stdout)
    return answer


def curl(host: Host, *words: str, check: bool = True) -> str:
    """Its output."""
    return host.exec("curl", "-sS", "--max-time", "10", *words, check=check).stdout


def ping(host: Host, address: object, size: int) -> None:
    """Three of them with so much data, none lost."""
    host.exec("ping", "-n", "-i0.2", "-c3", "-W3", "-s", str(size), str(address))


def descriptors(host: Host) -> int:
    """How many its daemon has open; the process is the program itself."""
    return len(list(Path(f"/proc/{host.running.pid}/fd").iterdir()))


def bracketed(host: Host) -> list[str]:
    """Both tailnet addresses, as in URLs, and the names."""
    return [str(host.ipv4), f"[{host.ipv6}]", host.name, f"{host.name}.lab.ts.net"]


def test_no_privilege_and_no_device(lab: Lab) -> None:
    """It runs as a plain user, and the system has no trace of it."""
    one = lab.hosts["h1"]
    status = Path(f"/proc/{one.running.pid}/status").read_text()
    for line in ("CapEff:\t0000000000000000", "NoNewPrivs:\t1", f"Uid:\t{NOBODY}"):
        assert line in status
    assert "tailnet0" not in one.exec("ip", "link").stdout
    assert one.exec("ip", "route", "show", "table", "52", check=False).stdout == ""
    assert one.status()["TUN"] is False
    assert lab.hosts["h2"].status()["TUN"] is True


def test_the_web_of_a_peer_through_socks5(lab: Lab) -> None:
    """By address, IPv6, short and full name; the proxy resolves."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for name in bracketed(two):
        assert curl(one, "--socks5-hostname", PROXY, f"http://{name}:{WEB}/text") == TEXT


def test_the_web_of_a_peer_through_the_http_proxy(lab: Lab) -> None:
    """Absolute form and CONNECT, on the same port as SOCKS5."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for name in bracketed(two):
        url = f"http://{name}:{WEB}/text"
        assert curl(one, "-x", f"http://{PROXY}", url) == TEXT
        assert curl(one, "-p", "-x", f"http://{PROXY}", url) == TEXT


def test_what_is_not_in_the_tailnet_goes_the_ordinary_way(lab: Lab) -> None:
    """The control server is reached through the proxy too."""
    one = lab.hosts["h1"]
    url = f"{one.login_server}/key?v=113"
    assert curl(one, "--socks5-hostname", PROXY, url) == curl(one, url)


def test_refusals_are_said(lab: Lab) -> None:
    """Nobody listens; no such name; not a proxy request."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    refused = curl(one, "-i", "-p", "-x", f"http://{PROXY}", f"http://{two.ipv4}:9/", check=False)
    assert refused.startswith("HTTP/1.1 502 Bad Gateway\nTailscale-Connect-Error: ")
    assert "connection refused" in refused
    nobody = curl(one, "-i", "-x", f"http://{PROXY}", "http://nobody.invalid/", check=False)
    assert "Tailscale-Connect-Error: nobody.invalid: no such host" in nobody
    for name, why in (
        ("nobody.lab.ts.net", "no such host"),
        ("100.127.0.9", "no node of the tailnet has this address"),
        (UNREACHABLE, "unreachable"),
        (PROHIBITED, "prohibited by a firewall"),
    ):
        said = curl(one, "-i", "-x", f"http://{PROXY}", f"http://{name}/", check=False)
        assert said.startswith("HTTP/1.1 502 Bad Gateway\nTailscale-Connect-Error: ")
        assert f": {why}\n" in said
    assert curl(one, "-i", f"http://{PROXY}/").startswith("HTTP/1.1 400 Bad Request\n")


def test_a_peer_reaches_servers_on_loopback(lab: Lab) -> None:
    """Both families; a port nobody listens on is refused at once."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for address in (one.ipv4, one.ipv6):
        got = two.exec(sys.executable, "-c", SAY_HELLO, str(address), str(LOCAL))
        assert got.stdout == "hello\n"
        refused = two.exec(sys.executable, "-c", SAY_HELLO, str(address), "9", check=False)
        assert "ConnectionRefusedError" in refused.stderr


def test_pings_are_answered(lab: Lab) -> None:
    """By the stack, both families, whole and in fragments."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for address in (one.ipv4, one.ipv6):
        assert two.ping_os(address, count=3).lost == 0
        for size in (3000, 60_000):
            ping(two, address, size)


def test_the_peer_api_is_asked_both_ways(lab: Lab) -> None:
    """Through the stack; both families, with and without a device at the other end."""
    one, two, three = (lab.hosts[name] for name in ("h1", "h2", "h3"))
    for asks, peer in ((one, two), (one, three), (two, one)):
        for address in (peer.ipv4, peer.ipv6):
            said = asks.tnet("ping", "--peerapi", str(address)).stdout
            assert said.startswith(f"hit peerapi of {address} ({peer.name}) at http://")


def test_announced_subnets_can_be_pinged(lab: Lab) -> None:
    """By ICMP sockets of an unprivileged process, or by the program; any size."""
    two = lab.hosts["h2"]
    for address in (*BEHIND, BEHIND3):
        for size in (56, 3000):
            ping(two, address, size)
    silent = two.exec("ping", "-n", "-c1", "-W1", "10.55.0.200", check=False)
    assert silent.returncode == 1


def test_datagrams_larger_than_a_packet_pass(lab: Lab) -> None:
    """9,000 bytes to loopback and to a subnet and back, and through SOCKS5."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for address in (one.ipv4, one.ipv6, *BEHIND):
        got = two.exec(sys.executable, "-c", SEND_MUCH, str(address), str(LOCAL))
        assert got.stdout == "True\n"
    for address in (two.ipv4, two.ipv6):
        assert proxied(one, "udp", PROXY, address, ECHO, 9000) == {"same": True}


def test_a_datagram_to_a_port_nobody_has_is_refused(lab: Lab) -> None:
    """As it would be without a tunnel."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for address in (one.ipv4, one.ipv6, *BEHIND):
        refused = two.exec(sys.executable, "-c", SEND_HELLO, str(address), "9", check=False)
        assert "ConnectionRefusedError" in refused.stderr


def test_datagrams_pass_both_ways(lab: Lab) -> None:
    """UDP ASSOCIATE to a peer; a peer to a server on loopback."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for host in (two.ipv4, two.ipv6, two.name):
        assert proxied(one, "udp", PROXY, host, ECHO) == {"same": True}
    for address in (one.ipv4, one.ipv6):
        got = two.exec(sys.executable, "-c", SEND_HELLO, str(address), str(LOCAL))
        assert got.stdout == "b'hello'\n"


def test_it_is_a_subnet_router_without_privilege(lab: Lab) -> None:
    """TCP and UDP of a peer reach the subnets by ordinary sockets; refusals are the servers'."""
    two = lab.hosts["h2"]
    for address in BEHIND:
        got = two.exec(sys.executable, "-c", SAY_HELLO, address, str(LOCAL))
        assert got.stdout == "hello\n"
        got = two.exec(sys.executable, "-c", SEND_HELLO, address, str(LOCAL))
        assert got.stdout == "b'hello'\n"
        refused = two.exec(sys.executable, "-c", SAY_HELLO, address, "9", check=False)
        assert "ConnectionRefusedError" in refused.stderr


def test_a_peers_refusal_ends_a_dial_at_once(lab: Lab) -> None:
    """It comes through the tunnel; the proxy's client is told."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    two.tnet("set", "--shields-up")
    for name in (str(two.ipv4), f"[{two.ipv6}]"):
        url = f"http://{name}:{WEB}/text"
        said = curl(one, "-i", "-x", f"http://{PROXY}", url, check=False)
        assert said.startswith("HTTP/1.1 502 Bad Gateway\nTailscale-Connect-Error: ")
        assert ": refused by the peer's policy\n" in said
    two.tnet("set", "--shields-up=false")
    url = f"http://{two.ipv4}:{WEB}/text"
    until("the web of h2", lambda: curl(one, "-x", f"http://{PROXY}", url) == TEXT, 10)


def test_a_half_closed_connection_carries_the_rest(lab: Lab) -> None:
    """32 MB there and back, with the sender's end closed early."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    size = 32 << 20
    assert proxied(one, "half", PROXY, two.ipv4, ECHO, size) == {"bytes": size, "same": True}


def test_many_connections_at_once_leave_nothing_behind(lab: Lab) -> None:
    """500 open together; afterwards the daemon has as many descriptors as before."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    proxied(one, "many", PROXY, two.ipv4, ECHO, 1)
    before = descriptors(one)
    said = proxied(one, "many", PROXY, two.ipv4, ECHO, 500)
    assert said == {"opened": 500, "good": 500}
    until("all descriptors to be closed", lambda: descriptors(one) <= before, 15)


def test_tnet_nc_connects_in_both_modes(lab: Lab) -> None:
    """Standard input goes out, what comes back is printed; it ends when the other side does."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for host, peer, port in ((one, two, ECHO), (two, one, LOCAL)):
        for name in (peer.name, str(peer.ipv4), str(peer.ipv6)):
            said = host.tnet("nc", name, str(port), feed="there and back")
            assert said.stdout == "there and back"
    failed = one.tnet("nc", two.name, "9", check=False)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert "connection refused" in failed.stderr


def test_names_by_the_service_addresses(lab: Lab) -> None:
    """The same service as with a TUN device, through the proxy; TCP and UDP, both families."""
    one, two = lab.hosts["h1"], lab.hosts["h2"]
    for server in ("100.100.100.100", "fd7a:115c:a1e0::53"):
        said = proxied(one, "dns", PROXY, server, f"{two.name}.lab.ts.net")
        assert said == {"tcp": [str(two.ipv4)], "udp": [str(two.ipv4)]}


def test_metrics_by_the_service_address(lab: Lab) -> None:
    """Through a connection that the daemon makes."""
    for server in ("100.100.100.100", "fd7a:115c:a1e0::53"):
        asked = "GET /metrics HTTP/1.1\r\nHost: 100.100.100.100\r\nConnection: close\r\n\r\n"
        said = lab.hosts["h1"].tnet("nc", server, "80", feed=asked)
        assert "tailscaled_home_derp_region_id" in said.stdout


def test_it_ends_in_an_orderly_way(lab: Lab) -> None:
    """Exit code 0 after SIGTERM, with connections open."""
    assert lab.hosts["h1"].stop() == 0
