"""Whatever a daemon did for its user, the machine is as before when it is gone.

::

    h1 ── bridge: control, DERP, STUN ── h2 (exit node, subnet router)

Each feature ends in three ways: told to stop; killed and cleaned up after; killed,
started and stopped.  While the daemon is dead the host's own network works, except where the kill
switch is set; of the internet, an exit node's guard lets nothing pass, see test_exit_node.
"""

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.topology import flat
from integration.lab.waiting import until
from integration.test_nothing_left import configuration

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

# What to set, what to look for while it is in force, and what to set back.
FEATURES = {
    "exit node": (
        ["--exit-node=h2", "--exit-node-allow-lan-access"],
        "unreachable default",
        ["--exit-node=", "--exit-node-allow-lan-access=false"],
    ),
    "exit node offered": (["--advertise-exit-node"], "masquerade", ["--advertise-exit-node=false"]),
    "subnet router": (
        ["--advertise-routes=10.88.0.0/24", "--snat-subnet-routes=false", "--stateful-filtering"],
        "untracked counter",
        ["--advertise-routes=", "--snat-subnet-routes", "--stateful-filtering=false"],
    ),
    "router of a site": (
        ["--advertise-routes=fd7a:115c:a1e0:b1a:0:7:a01:0/112"],
        "tailnetd",
        ["--advertise-routes="],
    ),
    "shields up": (["--shields-up"], "tailnetd", ["--shields-up=false"]),
    "accept-routes": (
        ["--accept-routes=10.77.0.0/25"],
        "10.77.0.0/25 dev tailnet0",
        ["--accept-routes=false"],
    ),
    "firewall off": (["--netfilter-mode=off"], "lookup 52", ["--netfilter-mode=on"]),
    "firewall undiverted": (
        ["--netfilter-mode=nodivert", "--advertise-routes=10.88.0.0/24"],
        "chain ts-postrouting",
        ["--netfilter-mode=on", "--advertise-routes="],
    ),
    "kill switch": (["--kill-switch"], "tailnetd-guard", ["--kill-switch=false"]),
}


@pytest.fixture(scope="module")
def fresh(make_lab: MakeLab) -> Host:
    """Logged in once, and stopped."""
    lab = make_lab(flat("h1", "h2"))
    lab.join("h2")
    lab.hosts["h2"].tnet("set", "--advertise-exit-node", "--advertise-routes=10.77.0.0/24")
    host = lab.hosts["h1"]
    host.exec("sysctl", "-qw", "net.ipv4.ip_forward=1")
    until("addresses", lambda: "tentative" not in host.exec("ip", "-o", "address").stdout, 10)
    host.start()
    host.up(AUTH_KEY)
    until("the offer", lambda: host.tnet("exit-node", "list", check=False).returncode == 0, 10)
    host.tnet("set", "--accept-routes=false")
    host.stop()
    return host


def shown(host: Host) -> str:
    """All views as one text."""
    return "\n".join(line for lines in configuration(host).values() for line in lines)


def own_network_works(host: Host) -> bool:
    """A neighbour answers by both families."""
    pings = [("ping", "-n", "-c1", "-W1", address) for address in ("10.99.0.1", "fd99::1")]
    return all(host.exec(*ping, check=False).returncode == 0 for ping in pings)


@pytest.mark.parametrize("name", FEATURES)
def test_nothing_is_left_of_it(fresh: Host, name: str) -> None:
    """Addresses, links, routes of all tables, rules, firewall, settings."""
    wish, sign, back = FEATURES[name]
    before = configuration(fresh)
    fresh.start()
    fresh.wait_running(20.0)
    fresh.tnet("set", *wish)
    until(name, lambda: sign in shown(fresh), 10.0)
    if name != "kill switch":
        assert fresh.stop() == 0
        assert configuration(fresh) == before
        fresh.start()
        fresh.wait_running(20.0)
        until(name, lambda: sign in shown(fresh), 10.0)
    fresh.kill9()
    assert own_network_works(fresh) is (name != "kill switch")
    fresh.exec(*fresh.daemon_command("--cleanup", "--remove-guard"))
    assert own_network_works(fresh)
    assert configuration(fresh) == before
    for ending in (fresh.kill9, None):
        fresh.start()
        fresh.wait_running(20.0)
        until(name, lambda: sign in shown(fresh), 10.0)
        if ending is not None:
            ending()
    fresh.tnet("set", *back)
    assert fresh.stop() == 0
    assert configuration(fresh) == before
