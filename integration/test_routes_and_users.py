"""A subnet behind a peer, and who may talk to the daemon.

::

    h1 ── bridge ── h2 (advertises 10.55.0.0/24 and fd55::/64, has 10.55.0.1 and fd55::1)
"""

import subprocess

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import BIN, Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

ROUTES = "10.55.0.0/24,fd55::/64"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """h2 owns a subnet and advertises it; h1 accepts routes."""
    lab = make_lab(flat("h1", "h2"))
    for address in ("10.55.0.1/32", "fd55::1/128"):
        lab.hosts["h2"].exec("ip", "address", "add", address, "dev", "lo")
    for host in lab.hosts.values():
        host.start()
    lab.hosts["h1"].up(AUTH_KEY)
    lab.hosts["h2"].up(AUTH_KEY, f"--advertise-routes={ROUTES}")
    lab.wait_complete()
    return lab


def table_52(host: Host) -> str:
    """Routes into the tunnel, both families."""
    four = host.exec("ip", "-4", "route", "show", "table", "52", check=False).stdout
    return four + host.exec("ip", "-6", "route", "show", "table", "52", check=False).stdout


def reaches(host: Host, address: object) -> bool:
    """One ping is answered; having no route at all is a no."""
    return host.exec("ping", "-n", "-c1", "-W1", str(address), check=False).returncode == 0


def test_an_accepted_subnet_is_reached(lab: Lab) -> None:
    """From the operating system, both families."""
    here = lab.hosts["h1"]
    until("the subnet's route", lambda: "10.55.0.0/24" in table_52(here), 10.0)
    assert "fd55::/64" in table_52(here)
    for address in ("10.55.0.1", "fd55::1"):
        assert here.ping_os(address, count=3).lost == 0


def test_a_router_whose_kernel_does_not_forward_is_told(lab: Lab) -> None:
    """``status`` says which settings; the warning goes when they are made."""
    there = lab.hosts["h2"]
    settings = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")

    def forward(value: int) -> None:
        for name in settings:
            there.exec("sysctl", "-qw", f"{name}={value}")
        there.tnet("set", f"--hostname=h2-{value}")  # else it looks again within a minute

    try:
        forward(0)
        told = "turn it on with: sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
        until("the warning", lambda: told in there.tnet("status").stdout, 10.0)
        forward(1)
        until("no warning", lambda: told not in there.tnet("status").stdout, 10.0)
    finally:
        there.tnet("set", "--hostname=h2")


def test_refusing_routes_takes_them_away_at_once(lab: Lab) -> None:
    """``tnet set`` acts on a running daemon; peers' own addresses stay reachable."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    here.tnet("set", "--accept-routes=false")
    until("the route to go", lambda: "10.55.0.0/24" not in table_52(here), 10.0)
    assert not reaches(here, "10.55.0.1")
    assert here.ping_os(there.ipv4, count=2).lost == 0
    assert "--accept-routes is false" in here.tnet("status").stdout
    here.tnet("set", "--accept-routes")
    until("the route to return", lambda: "10.55.0.0/24" in table_52(here), 10.0)
    assert here.ping_os("10.55.0.1", count=2).lost == 0


def test_shields_up_lets_nothing_new_in(lab: Lab) -> None:
    """Replies still pass."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    there.tnet("set", "--shields-up")
    assert not reaches(here, there.ipv4)
    assert there.ping_os(here.ipv4, count=2).lost == 0
    there.tnet("set", "--shields-up=false")
    assert here.ping_os(there.ipv4, count=2).lost == 0


def as_nobody(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``tnet`` by a user without any right."""
    tnet = [str(BIN / "tnet"), f"--socket={host.socket}", *arguments]
    return host.exec(*NOBODY, *tnet, check=False)


def test_others_read_and_the_operator_writes(lab: Lab) -> None:
    """The socket is open to all; each request is judged by the caller's uid."""
    host = lab.hosts["h1"]
    for directory in (host.directory, host.directory.parent):
        directory.chmod(0o755)
    assert as_nobody(host, "ip", "-4").stdout == f"{host.ipv4}\n"
    refused = as_nobody(host, "down")
    assert refused.returncode == 1
    assert "tnet set --operator=$USER" in refused.stderr
    host.tnet("set", "--operator=nobody")
    assert as_nobody(host, "set", "--accept-routes").returncode == 0
    host.tnet("set", "--operator=")
    assert as_nobody(host, "set", "--accept-routes").returncode == 1


def test_down_and_up_again(lab: Lab) -> None:
    """Stopped leaves no route; ``tnet up`` needs no key and returns when pings pass."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    address = here.ipv4
    here.tnet("down")
    until("no routes", lambda: not table_52(here), 10.0)
    assert here.status()["BackendState"] == "Stopped"
    assert not reaches(here, there.ipv4)
    here.tnet("up")
    assert here.status()["BackendState"] == "Running"
    assert here.ipv4 == address
    assert here.ping_os(there.ipv4, count=2).lost == 0
