"""Where something of a whole system is missing: it does what it can, and says what it cannot."""

import sys
from pathlib import Path

import pytest
from integration.conftest import MakeLab
from integration.lab import private
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = pytest.mark.netns

NO_DEVICE = "-t tmpfs none /dev/net"
WITHOUT_NFTABLES = Path(__file__).parent / "lab" / "without_nftables.py"


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """The other one is whole."""
    made = make_lab(flat("h1", "h2"))
    made.join("h2")
    return made


def health(host: Host) -> str:
    """All warnings."""
    return "\n".join(host.status()["Health"] or ())


def make_container(host: Host) -> Path:
    """As Podman marks one; its root."""
    root = private.root_of(host.namespace)
    assert root is not None
    (root / "run/.containerenv").touch()
    return root


def test_without_the_device_it_says_how_a_container_gets_it_or_does_without(lab: Lab) -> None:
    """The second name of the list needs none."""
    host = lab.hosts["h1"]
    make_container(host)
    private.add_mount(host.namespace, NO_DEVICE)
    done = host.exec(*host.daemon_command(), check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "tailnetd: there is no /dev/net/tun; start the container with --device /dev/net/tun "
        "--cap-add NET_ADMIN, or do without: --tun=userspace-networking"
    )
    pytest.importorskip("tailnet_native")
    lab.join("h1", flags=["--tun=tailnet0,userspace-networking"])
    assert "no device tailnet0: there is no /dev/net/tun" in host.log.read_text()
    assert "pong" in host.tnet("ping", "--c=1", "--until-direct=false", "h2").stdout


def test_where_etc_is_read_only_everything_works_but_the_hosts_names(lab: Lab) -> None:
    """As in a container whose image is not to be changed."""
    host = lab.hosts["h1"]
    make_container(host)
    private.add_mount(host.namespace, "-o remount,bind,ro /etc")
    lab.join("h1")
    assert host.ping_os(lab.hosts["h2"].ipv4, count=10).received
    until("a warning about names", lambda: "resolv.conf" in health(host), 10)


def test_without_nftables_packets_flow_and_the_firewall_is_said_to_be_missing(lab: Lab) -> None:
    """A kernel that has not got them refuses the socket."""
    host = lab.hosts["h1"]
    root = make_container(host)
    enter = root / "enter"
    words = f"exec {sys.executable} {WITHOUT_NFTABLES} "
    enter.write_text(enter.read_text().replace("exec ", words))
    lab.join("h1")
    assert host.ping_os(lab.hosts["h2"].ipv4, count=10).received
    until("a warning about the firewall", lambda: "irewall" in health(host), 10)


def test_docker_and_stateful_filtering_are_told_of(lab: Lab) -> None:
    """While both are there, seen as the bridge comes and goes."""
    host = lab.hosts["h2"]
    warning = "Docker runs here and --stateful-filtering is on"
    host.tnet("set", "--stateful-filtering")
    assert warning not in health(host)
    host.exec("ip", "link", "add", "docker0", "type", "bridge")
    host.exec("ip", "link", "set", "docker0", "up")
    until("the warning", lambda: warning in health(host), 10)
    assert warning in host.tnet("status").stdout
    host.tnet("set", "--stateful-filtering=false")
    until("no warning", lambda: warning not in health(host), 10)
    host.tnet("set", "--stateful-filtering")
    until("the warning again", lambda: warning in health(host), 10)
    host.exec("ip", "link", "del", "docker0")
    until("no warning", lambda: warning not in health(host), 10)
