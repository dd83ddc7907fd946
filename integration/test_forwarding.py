"""A subnet router whose kernel does not forward, as its user finds out."""

import json
import shutil

import pytest
from integration.conftest import MakeLab, cannot
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.topology import flat
from integration.lab.waiting import until
from tests.support.platform_netns import ip, private_network

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.ethtool import (
    change,
    features,
    gro_forwarding_problem,
    set_gro_forwarding,
)
from tailnet.platform.linux.tun import open_tun

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]
GRO = "rx-udp-gro-forwarding"


@pytest.fixture(scope="module")
def host(make_lab: MakeLab) -> Host:
    """Connected."""
    lab = make_lab(flat("h1"))
    host = lab.hosts["h1"]
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        host.exec("sysctl", "-qw", f"{name}=0")
    host.start()
    host.up(AUTH_KEY)
    return host


def health(host: Host) -> str:
    """In one line."""
    return " ".join(json.loads(host.tnet("status", "--json").stdout)["Health"] or ())


def test_forwarding_is_offered_and_never_turned_on_silently(host: Host) -> None:
    """Health and ``tnet`` say what is missing; the flag does it, now and for good."""
    said = host.tnet("set", "--advertise-routes=10.1.0.0/24,fd01::/64").stderr
    assert "does not forward packets" in said
    assert "sudo tnet set --enable-ip-forwarding" in said
    assert host.exec("sysctl", "-n", "net.ipv4.ip_forward").stdout == "0\n"
    until("the warning", lambda: "does not forward" in health(host), 10.0)
    host.tnet("set", "--enable-ip-forwarding")
    assert host.exec("sysctl", "-n", "net.ipv4.ip_forward").stdout == "1\n"
    assert host.exec("sysctl", "-n", "net.ipv6.conf.all.forwarding").stdout == "1\n"
    kept = host.exec("cat", "/etc/sysctl.d/99-tailnet-forwarding.conf").stdout
    assert "net.ipv6.conf.all.forwarding = 1" in kept
    host.tnet("set", "--advertise-routes=10.1.0.0/24,10.2.0.0/24")
    assert "does not forward" not in health(host)


def test_slow_forwarding_of_udp_is_noted_until_it_is_not(host: Host) -> None:
    """The command that is advised does it."""
    if shutil.which("ethtool") is None:
        cannot("needs ethtool")
    host.exec("ip", "route", "replace", "default", "via", "10.99.0.1")
    until(
        "the advice",
        lambda: GRO in host.tnet("set", "--advertise-routes=10.1.0.0/24").stderr,
        10.0,
    )
    said = host.tnet("set", "--advertise-routes=10.1.0.0/24").stderr
    host.exec(*said.partition("pieces: ")[2].split())
    assert GRO not in host.tnet("set", "--advertise-routes=10.1.0.0/24").stderr
    host.exec("ethtool", "-K", "eth0", GRO, "off", "rx-gro-list", "on")
    assert GRO in host.tnet("set", "--advertise-routes=10.1.0.0/24").stderr
    host.tnet("debug", "set-udp-gro-forwarding")
    shown = host.exec("ethtool", "-k", "eth0").stdout
    assert f"{GRO}: on" in shown
    assert "rx-gro-list: off" in shown


def test_features_are_what_ethtool_shows() -> None:
    """Of a device that has them, and of none."""
    with private_network():
        ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
        found = features("v0")
        assert found["tx-udp-segmentation"] is True
        assert found[GRO] is False
        with pytest.raises(OSError, match="No such device"):
            features("v9")
        tun = open_tun("tun7")
        try:
            assert GRO in gro_forwarding_problem("tun7", "v0")
            assert gro_forwarding_problem("tun7", "v9") == ""
            assert gro_forwarding_problem("v9", "v0") == ""
            with pytest.raises(PlatformError, match="v9 cannot be changed: No such device"):
                set_gro_forwarding("tun7", "v9")
            change("v0", {"rx-gro-list": True})
            set_gro_forwarding("tun7", "v0")
            after = features("v0")
            assert {name for name in after if after[name] is not found[name]} == {GRO}
            change("tun7", {"tx-udp-segmentation": False})
            with pytest.raises(PlatformError, match="tun7 takes no joined UDP"):
                set_gro_forwarding("tun7", "v0")
        finally:
            tun.close()
