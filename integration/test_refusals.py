"""Connections that cannot be fail at once, with an error that says why; segments fit the tunnel.

::

    h1 ── bridge ── h2
"""

import errno
import sys

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

PORT = 2222
EVERYTHING = [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}]
WEB_ONLY = [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 80, "Last": 80}}]}]

# Prints 0 or the errno; a time-out is 11 (EAGAIN).
CONNECT = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bytes([6]) + bytes(15))
    try:
        sock.connect((sys.argv[1], int(sys.argv[2])))
        print(0)
    except OSError as error:
        print(error.errno)
"""

# Prints the MSS of the first SYN that comes through the tunnel.
SNIFF = """
import socket
with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x0008) as sock:
    sock.bind(("tailnet0", 0x0800))
    print("ready", flush=True)
    while True:
        packet = sock.recv(2000)
        if packet[9] == 6 and packet[33] & 0x12 == 2:
            at = packet.index(bytes([2, 4]), 40)
            print(int.from_bytes(packet[at + 2 : at + 4], "big"), flush=True)
            break
"""

# Sends ten datagrams whose checksum is wrong.
DAMAGED = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP) as sock:
    for number in range(10):
        head = b"".join(n.to_bytes(2) for n in (4000, 4001, 12, 0x1234))
        sock.sendto(head + number.to_bytes(4), (sys.argv[1], 0))
"""


@pytest.fixture(scope="module", params=["native", "reference"])
def lab(request: pytest.FixtureRequest, make_lab: MakeLab) -> Lab:
    """Two hosts, with either datapath; h2 has a server on PORT."""
    lab = make_lab(flat("h1", "h2"))
    for host in lab.hosts.values():
        host.start(f"--datapath={request.param}")
    for host in lab.hosts.values():
        host.up(AUTH_KEY)
    lab.wait_complete()
    lab.hosts["h2"].spawn("server", sys.executable, "-m", "http.server", str(PORT), "--bind", "::")
    until("the server", lambda: connect(lab.hosts["h1"], lab.hosts["h2"].ipv4) == 0, 10.0)
    return lab


def connect(host: Host, address: object, port: int = PORT) -> int:
    """0, or the errno of a TCP connection tried for 6 seconds."""
    done = host.exec(sys.executable, "-c", CONNECT, str(address), str(port))
    return int(done.stdout)


def rejected(host: Host) -> dict[str, int]:
    """What peers said."""
    lines = host.tnet("debug", "drops").stdout.splitlines()
    return {
        " ".join(reason): int(count)
        for layer, *reason, count in map(str.split, lines)
        if layer == "rejected"
    }


def test_shields_up_refuses_at_once(lab: Lab) -> None:
    """Both families; the daemon that asked knows the reason."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    there.tnet("set", "--shields-up")
    assert connect(here, there.ipv4) == errno.EHOSTUNREACH
    assert connect(here, there.ipv6) == errno.EACCES
    assert rejected(here) == {"shields up": 2}
    there.tnet("set", "--shields-up=false")
    assert connect(here, there.ipv4) == 0


def test_a_port_that_no_rule_allows_refuses_at_once(lab: Lab) -> None:
    """And is open when the rules change."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    lab.admin("set-filter", rules=WEB_ONLY)
    until("the rules", lambda: connect(here, there.ipv4) == errno.EHOSTUNREACH, 10.0)
    assert connect(here, there.ipv4, 80) == errno.ECONNREFUSED  # by the kernel: nobody listens
    assert rejected(here)["rules"] >= 1
    lab.admin("set-filter", rules=EVERYTHING)
    until("the rules", lambda: connect(here, there.ipv4) == 0, 10.0)


def test_segments_are_kept_to_what_fits(lab: Lab) -> None:
    """Whatever a host behind us believes; here its kernel is told to ask for more."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    sniffer = there.spawn("sniffer", sys.executable, "-c", SNIFF)
    until("the sniffer", lambda: "ready" in sniffer.log.read_text(), 5.0)
    route = (f"{there.ipv4}/32", "dev", "tailnet0", "table", "52")
    here.exec("ip", "route", "replace", *route, "advmss", "1460")
    assert connect(here, there.ipv4) == 0
    assert sniffer.wait(5) == 0
    assert sniffer.log.read_text().split() == ["ready", "1240"]
    here.exec("ip", "route", "replace", *route)


def test_datagrams_with_a_wrong_checksum_do_not_leave(lab: Lab) -> None:
    """Both families, from a raw socket of the host; connections go on."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    for address in (there.ipv4, there.ipv6):
        here.exec(sys.executable, "-c", DAMAGED, str(address))
    wanted = ["packets", "out_checksum", "20"]

    def counted() -> bool:
        return wanted in map(str.split, here.tnet("debug", "drops").stdout.splitlines())

    until("all of them to be counted", counted, 5.0)
    assert connect(here, there.ipv4) == connect(here, there.ipv6) == 0


def test_an_address_that_no_peer_has_is_unreachable_at_once(lab: Lab) -> None:
    """Both families; a route that points into the tunnel all the same."""
    here = lab.hosts["h1"]
    for address in ("100.64.99.99", "fd7a:115c:a1e0::9999"):
        here.exec("ip", "route", "add", address, "dev", "tailnet0", "table", "52")
        assert connect(here, address) == errno.EHOSTUNREACH
    assert "out_no_peer" in here.tnet("debug", "drops").stdout


def test_a_peer_that_is_gone_is_unreachable_at_once(lab: Lab) -> None:
    """Both families.  Last, for it does not come back."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    addresses = there.ipv4, there.ipv6
    there.stop()  # or it would register again
    lab.admin("delete", name="h2")
    until("h2 to go", lambda: not here.peers(), 10.0)
    unreachable = errno.EHOSTUNREACH, errno.ENETUNREACH  # by us, or once the route is gone

    def nobody_answers() -> bool:
        return all(connect(here, address) in unreachable for address in addresses)

    until("nobody to answer", nobody_answers, 5.0)
