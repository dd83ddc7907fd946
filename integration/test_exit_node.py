"""Everything through a peer, and nothing past it.

::

    h1 ── bridge: control, DERP, STUN; "the internet" 203.0.113.1, 2001:db8:ffff::1 ── h2 (exit)

h1 has the strictest reverse path filter, and counts what would leave its link towards the internet.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import DEVICE, Host
from integration.lab.lab import Lab
from integration.lab.process import run
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

INTERNET = ("203.0.113.1", "2001:db8:ffff::1")
PROBE = """
table inet probe {
	chain post {
		type filter hook postrouting priority 300;
		oifname "eth0" ip daddr 203.0.113.1 counter
		oifname "eth0" ip6 daddr 2001:db8:ffff::1 counter
	}
}
"""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """h2 offers to be an exit node; h1 uses none yet."""
    lab = make_lab(flat("h1", "h2"))
    inet = f"{lab.hosts['h1'].namespace.rpartition('-')[0]}-inet"
    for address in ("203.0.113.1/32", "2001:db8:ffff::1/128"):
        run(["ip", "-n", inet, "address", "add", address, "dev", "lo"])
    for host in lab.hosts.values():
        host.exec("ip", "route", "add", "default", "via", "10.99.0.1")
        host.exec("ip", "-6", "route", "add", "default", "via", "fd99::1")
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    for name in ("all", "default", "eth0"):
        here.exec("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=1")
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        there.exec("sysctl", "-qw", f"{name}=1")
    run(["nft", "-f", "-"], namespace=here.namespace, feed=PROBE)
    for host in lab.hosts.values():
        host.start()
    here.up(AUTH_KEY)
    there.up(AUTH_KEY, "--advertise-exit-node")
    lab.wait_complete()
    until("the offer", lambda: offered(here), 10.0)
    return lab


def offered(host: Host) -> bool:
    """It can be chosen."""
    return host.tnet("exit-node", "list", check=False).returncode == 0


def reaches(host: Host, address: object) -> bool:
    """One ping is answered; having no route at all is a no."""
    return host.exec("ping", "-n", "-c1", "-W1", str(address), check=False).returncode == 0


def leaked(host: Host) -> int:
    """Packets for the internet that left by the link."""
    listed = host.exec("nft", "list", "table", "inet", "probe").stdout
    return sum(map(int, re.findall(r"packets (\d+)", listed)))


@contextmanager
def no_leak(host: Host) -> Iterator[None]:
    """Pings both internets all the while; none may leave by the link."""
    before = leaked(host)
    pings = [host.spawn(f"ping-{ip}", "ping", "-n", "-i0.02", ip) for ip in INTERNET]
    try:
        yield
    finally:
        for ping in pings:
            ping.kill()
    assert leaked(host) == before


def guarded(host: Host) -> bool:
    """The kill switch stands: an unanswered ping alone may be one that was slow."""
    return "tailnetd-guard" in host.exec("nft", "list", "tables").stdout


def through(host: Host) -> bool:
    """Both families reach the internet."""
    return all(reaches(host, address) for address in INTERNET)


def test_everything_goes_through_the_exit_node(lab: Lab) -> None:
    """By name; it masquerades, and its own addresses and link are not part of the internet."""
    here = lab.hosts["h1"]
    assert "h2.lab" in here.tnet("exit-node", "list").stdout
    assert "--exit-node=h2." in here.tnet("exit-node", "suggest").stdout
    assert through(here)
    assert leaked(here) >= 2
    here.tnet("set", "--exit-node=h2")
    until("the way through", lambda: through(here), 10.0)
    with no_leak(here):
        assert through(here)
    assert "selected" in here.tnet("exit-node", "list").stdout
    assert not reaches(here, "10.99.0.1")


def test_a_strict_filter_without_our_rules_is_told(lab: Lab) -> None:
    """Answers to the tunnel's own packets would get lost, with an exit node in use."""
    here = lab.hosts["h1"]

    def told() -> bool:
        return "reverse path filter is strict" in here.tnet("status", "--json").stdout

    assert not told()
    here.tnet("set", "--netfilter-mode=nodivert")
    until("the warning", told, 10.0)
    here.tnet("set", "--netfilter-mode=on")
    until("no warning", lambda: not told(), 10.0)


def test_the_local_network_is_reached_directly_if_allowed(lab: Lab) -> None:
    """And not without."""
    here = lab.hosts["h1"]
    here.tnet("set", "--exit-node-allow-lan-access")
    until("the link", lambda: reaches(here, "10.99.0.1") and reaches(here, "fd99::1"), 10.0)
    with no_leak(here):
        assert through(here)
    here.tnet("set", "--exit-node-allow-lan-access=false")
    until("the tunnel", lambda: not reaches(here, "10.99.0.1"), 10.0)


def test_what_an_administrators_own_rule_leads_past_the_tunnel_passes(lab: Lab) -> None:
    """It comes before ours; only what it names, and as long as it is there."""
    here, (named, other) = lab.hosts["h1"], INTERNET

    def passes(address: str) -> bool:
        before = leaked(here)
        assert reaches(here, address)
        return leaked(here) == before + 1

    rule = ("pref", "100", "to", named, "lookup", "main")
    assert not passes(named)
    here.exec("ip", "rule", "add", *rule)
    until("his way", lambda: reaches(here, named), 10.0)
    assert passes(named)
    assert not passes(other)
    here.exec("ip", "rule", "del", *rule)
    assert not passes(named)
    guard = ("nft", "list", "table", "inet", "tailnetd-exit")
    until("no exception", lambda: named not in here.exec(*guard).stdout, 10.0)


def test_nothing_leaks_while_the_exit_node_is_gone(lab: Lab) -> None:
    """It is refused, and goes on when the exit node is back."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    with no_leak(here):
        there.stop()
        assert not through(here)
        there.start()
        until("the way through", lambda: through(here), 20.0)


RULES = (5210, 5230, 5250, 5270)
GONE = "ip rule del pref {0}; ip -6 rule del pref {0}"
FLUSHED = "ip route flush table 52; ip -6 route flush table 52"
DAMAGE = (
    FLUSHED,
    *(GONE.format(pref) for pref in RULES),
    f"ip -4 address flush dev {DEVICE}; ip -6 address flush dev {DEVICE}",
    f"ip link set {DEVICE} down",
    "nft delete table inet tailnetd-exit",
    "; ".join([*map(GONE.format, RULES), FLUSHED]),
)


def test_nothing_leaks_whatever_others_remove(lab: Lab) -> None:
    """Routes, rules, addresses or the whole firewall, until it is put back; nor what is bound."""
    here = lab.hosts["h1"]

    def whole() -> bool:
        """Every part is there again."""
        rules = here.exec("sh", "-c", "ip rule; ip -6 rule").stdout
        routes = here.exec("sh", "-c", "ip route show table 52; ip -6 route show table 52").stdout
        ways = routes.count(f"default dev {DEVICE}"), routes.count("unreachable default")
        wall = "tailnetd-exit" in here.exec("nft", "list", "tables").stdout
        return wall and len(re.findall("^52[1357]0:", rules, re.MULTILINE)) == 8 and ways == (2, 2)

    with no_leak(here):
        for line in DAMAGE:
            here.exec("sh", "-c", line)
            until(f"the repair of: {line}", lambda: whole() and through(here), 10.0)
        for address in INTERNET:
            assert here.exec("ping", "-c1", "-W1", "-Ieth0", address, check=False).returncode


def test_nothing_leaks_while_the_default_route_or_the_devices_name_is_another(lab: Lab) -> None:
    """The way through is found again after the one, and after the other when it is set back."""
    here = lab.hosts["h1"]
    ways = [("-4", "default", "via", "10.99.0.1"), ("-6", "default", "via", "fd99::1")]
    with no_leak(here):
        for version, *way in ways:
            here.exec("ip", version, "route", "del", *way)
            here.exec("ip", version, "route", "add", *way, "metric", "50")
        until("the way through", lambda: through(here), 10.0)
        for version, *way in ways:
            here.exec("ip", version, "route", "replace", *way)
            here.exec("ip", version, "route", "del", *way, "metric", "50")
        rename = "ip link set {0} down; ip link set {0} name {1}; ip link set {1} up"
        here.exec("sh", "-c", rename.format(DEVICE, "other0"))
        until("the warning", lambda: f"no interface {DEVICE}" in str(here.status()["Health"]), 10.0)
        assert not any(reaches(here, address) for address in INTERNET)
        here.exec("sh", "-c", rename.format("other0", DEVICE))
        until("the way through", lambda: through(here), 10.0)


@pytest.mark.parametrize("where", ["all", DEVICE])
def test_ipv6_that_is_turned_off_and_on_again_comes_back(lab: Lab, where: str) -> None:
    """Of the whole host, or of the tunnel; meanwhile IPv4 goes on, and nothing leaks."""
    here, setting = lab.hosts["h1"], f"net.ipv6.conf.{where}.disable_ipv6"

    def excepted() -> bool:
        return "throw" in here.exec("ip", "-6", "route", "show", "table", "52").stdout

    here.tnet("set", "--exit-node-allow-lan-access")
    assert excepted()
    with no_leak(here):
        here.exec("sysctl", "-qw", f"{setting}=1")
        until("no exceptions, since there is nothing to except from", lambda: not excepted(), 10.0)
        assert reaches(here, INTERNET[0])
        assert not reaches(here, INTERNET[1])
        here.exec("sysctl", "-qw", f"{setting}=0")
        if where == "all":  # the kernel forgot these, too
            here.exec("ip", "address", "add", "fd99::11/64", "dev", "eth0", "nodad")
            here.exec("ip", "-6", "route", "add", "default", "via", "fd99::1")
        until("the way through", lambda: through(here), 10.0)
    here.tnet("set", "--exit-node-allow-lan-access=false")


def test_nothing_leaks_while_the_daemon_is_killed_and_starts_again(lab: Lab) -> None:
    """The device goes with it; what stops the packets does not."""
    here = lab.hosts["h1"]
    with no_leak(here):
        here.kill9()
        assert not any(reaches(here, address) for address in INTERNET)
        here.start()
        until("the way through", lambda: through(here), 20.0)


def test_nothing_leaks_while_the_device_is_taken_away(lab: Lab) -> None:
    """The daemon ends with an error, and is started again by whoever looks after it."""
    here = lab.hosts["h1"]
    with no_leak(here):
        here.exec("ip", "link", "del", DEVICE)
        assert here.running.wait(20) == 1
        assert not any(reaches(here, address) for address in INTERNET)
        here.exec("env", "SERVICE_RESULT=exit-code", *here.daemon_command("--cleanup"))
        assert not any(reaches(here, address) for address in INTERNET)
        here.kill9()
        here.start()
        until("the way through", lambda: through(here), 20.0)


def test_cleanup_after_a_crash_keeps_the_guard_and_by_hand_does_not(lab: Lab) -> None:
    """The service manager runs it before it starts the daemon again."""
    here = lab.hosts["h1"]
    command = here.daemon_command("--cleanup")
    with no_leak(here):
        here.kill9()
        here.exec("env", "SERVICE_RESULT=signal", *command)
        assert not any(reaches(here, address) for address in INTERNET)
    here.exec(*command)
    assert through(here)
    assert "tailnetd" not in here.exec("nft", "list", "tables").stdout
    here.start()
    until("the way through", lambda: through(here), 20.0)


def test_without_an_exit_node_all_is_as_before(lab: Lab) -> None:
    """At once."""
    here = lab.hosts["h1"]
    here.tnet("set", "--exit-node=h2")
    assert "tailnetd-exit" in here.exec("nft", "list", "tables").stdout
    assert "unreachable default" in here.exec("ip", "route", "show", "table", "52").stdout
    here.tnet("set", "--exit-node=")
    assert "tailnetd-exit" not in here.exec("nft", "list", "tables").stdout
    assert "default" not in here.exec("ip", "route", "show", "table", "52").stdout
    before = leaked(here)
    until("the link", lambda: through(here) and leaked(here) > before, 10.0)
    refused = here.tnet("set", "--exit-node=h1", check=False)
    assert isinstance(refused, subprocess.CompletedProcess)
    assert "h1 does not offer to be an exit node" in refused.stderr


def test_the_kill_switch_holds_without_a_daemon_and_has_a_way_out(lab: Lab) -> None:
    """Stopped, killed, cleaned up, not connected, or before the daemon at boot."""
    here = lab.hosts["h1"]
    command = here.daemon_command

    def stopped() -> bool:
        return not any(reaches(here, address) for address in INTERNET)

    here.tnet("set", "--kill-switch")
    until("the kill switch", lambda: guarded(here) and stopped(), 10.0)
    with no_leak(here):
        until("the peer", lambda: reaches(here, lab.hosts["h2"].ipv4), 10.0)
        here.tnet("set", "--exit-node=h2")
        until("the way through", lambda: through(here), 10.0)
        here.tnet("down")
        until("no network", stopped, 10.0)
        here.tnet("up")
        until("the way through", lambda: through(here), 10.0)
        here.kill9()
        assert stopped()
        here.exec(*command("--cleanup"))
        assert stopped()
        here.start()
        until("the way through", lambda: through(here), 20.0)
        here.stop()
        assert stopped()
    here.exec(*command("--cleanup", "--remove-guard"))
    until("the link", lambda: through(here), 10.0)
    assert "kill switch is set" in here.exec(*command("--guard")).stdout
    with no_leak(here):
        assert stopped()
        here.start()
        here.wait_running(20.0)
    here.tnet("set", "--kill-switch=false", "--exit-node=")
    until("the link", lambda: through(here), 10.0)
    assert here.stop() == 0
    assert "tailnetd" not in here.exec("nft", "list", "tables").stdout
