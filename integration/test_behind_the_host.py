"""Programs beside the daemon that want names: a container on a bridge, and a resolver of the host.

::

    box 172.17.0.2 ── docker0 172.17.0.1 (h1) ── bridge: control, DERP, STUN
"""

import sys
from collections.abc import Iterator

import pytest
from integration.conftest import MakeLab
from integration.lab.lab import Lab
from integration.lab.process import run
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

NAME = "h1.lab.ts.net"
TAKES_53 = """
import socket, time
kept = []
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        taken = socket.socket(family, kind)
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind((address, 53))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        kept.append(taken)
print("taken", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """h1 is joined, and has a container that it forwards for, as Docker has it."""
    lab = make_lab(flat("h1"))
    here = lab.hosts["h1"]
    box = box_of(lab)
    run(["ip", "netns", "add", box])
    run(["ip", "-n", here.namespace, "link", "add", "docker0", "type", "bridge"])
    link = ["link", "add", "v0", "type", "veth", "peer", "eth0", "netns", box]
    run(["ip", "-n", here.namespace, *link])
    here.exec("ip", "link", "set", "v0", "master", "docker0", "up")
    here.exec("ip", "address", "add", "172.17.0.1/16", "dev", "docker0")
    here.exec("ip", "link", "set", "docker0", "up")
    run(["ip", "-n", box, "address", "add", "172.17.0.2/16", "dev", "eth0"])
    run(["ip", "-n", box, "link", "set", "eth0", "up"])
    run(["ip", "-n", box, "route", "add", "default", "via", "172.17.0.1"])
    here.exec("sysctl", "-qw", "net.ipv4.ip_forward=1")
    lab.join("h1")
    return lab


def box_of(lab: Lab) -> str:
    """Name of the container's namespace."""
    return f"{lab.hosts['h1'].namespace.rpartition('-')[0]}-box"


@pytest.fixture(params=["as it is", "masqueraded"])
def masqueraded(lab: Lab, request: pytest.FixtureRequest) -> Iterator[None]:
    """What the container sends has its own address, or the host's, as Docker does it."""
    here = lab.hosts["h1"]
    if request.param == "masqueraded":
        hook = "{ type nat hook postrouting priority 100; }"
        here.exec("nft", "add table ip docker")
        here.exec("nft", f"add chain ip docker post {hook}")
        rule = 'ip saddr 172.17.0.0/16 oifname != "docker0" masquerade'
        here.exec("nft", f"add rule ip docker post {rule}")
    yield
    here.exec("nft", "delete table ip docker", check=False)


def asked(lab: Lab, transport: str, *, namespace: str) -> str:
    """The answer of 100.100.100.100."""
    dig = ["dig", "+tries=1", "+timeout=2", "+short", transport, "@100.100.100.100", NAME]
    return run(dig, namespace=namespace, check=False).stdout.strip()


@pytest.mark.usefixtures("masqueraded")
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_a_container_on_a_bridge_is_answered(lab: Lab, transport: str) -> None:
    """By UDP and TCP."""
    own = str(lab.hosts["h1"].ipv4)
    until("an answer", lambda: asked(lab, transport, namespace=box_of(lab)) == own, 10.0)


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_a_program_that_holds_port_53_everywhere_takes_nothing(lab: Lab, transport: str) -> None:
    """The service address is answered in the tunnel, not by a socket of the host."""
    here = lab.hosts["h1"]
    holder = here.spawn("holder", sys.executable, "-c", TAKES_53)
    try:
        until("it holds them", lambda: b"taken" in holder.log.read_bytes(), 10.0)
        assert asked(lab, transport, namespace=here.namespace) == str(here.ipv4)
    finally:
        holder.kill()
