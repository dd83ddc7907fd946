"""A real subnet behind a router whose own firewall drops everything, and other programs' flushes.

::

    h1 ── bridge: control, DERP, STUN ── h2 (router, 10.77.0.1, fd77::1) ── veth ── far 10.77.0.2
"""

import re

import pytest
from integration.conftest import MakeLab
from integration.lab.config import AUTH_KEY
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.process import run
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

FAR = ("10.77.0.2", "fd77::2")
DROPPING = "".join(
    f"add table {family} filter\n"
    f"add chain {family} filter INPUT {{ type filter hook input priority 0; policy drop; }}\n"
    f"add chain {family} filter FORWARD {{ type filter hook forward priority 0; policy drop; }}\n"
    f"add rule {family} filter INPUT iifname {{ lo, eth0, lan0 }} accept\n"
    f"add rule {family} filter FORWARD ct state established accept\n"
    for family in ("ip", "ip6")
)


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """The subnet is one namespace, ``TAG-far``, which goes with the lab."""
    lab = make_lab(flat("h1", "h2"))
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    far = far_of(lab)
    run(["ip", "netns", "add", far])
    link = ["link", "add", "lan0", "type", "veth", "peer", "eth0", "netns", far]
    run(["ip", "-n", there.namespace, *link])
    for ns, name, number in ((there.namespace, "lan0", 1), (far, "eth0", 2)):
        run(["ip", "-n", ns, "address", "add", f"10.77.0.{number}/24", "dev", name])
        run(["ip", "-n", ns, "address", "add", f"fd77::{number}/64", "dev", name, "nodad"])
        run(["ip", "-n", ns, "link", "set", name, "up"])
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        there.exec("sysctl", "-qw", f"{name}=1")
    run(["nft", "-f", "-"], namespace=there.namespace, feed=DROPPING)
    for host in (here, there):
        host.start()
    here.up(AUTH_KEY)
    there.up(AUTH_KEY, "--advertise-routes=10.77.0.0/24,fd77::/64")
    lab.wait_complete()
    return lab


def far_of(lab: Lab) -> str:
    """Name of the namespace."""
    return f"{lab.hosts['h1'].namespace.rpartition('-')[0]}-far"


def reaches(host: Host, address: object) -> bool:
    """One ping is answered."""
    return host.exec("ping", "-n", "-c1", "-W1", str(address), check=False).returncode == 0


def all_reached(lab: Lab) -> bool:
    """Both families of the subnet, and the router itself."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    return all(reaches(here, address) for address in (*FAR, there.ipv4, there.ipv6))


def test_the_subnet_is_reached_through_a_firewall_that_drops(lab: Lab) -> None:
    """Hosts there need no route back: they see the router's address."""
    until("the subnet", lambda: all_reached(lab), 10.0)


@pytest.mark.parametrize("damage", ["flush ruleset", "delete table inet tailnetd"])
def test_what_others_remove_comes_back(lab: Lab, damage: str) -> None:
    """With the other program's rules loaded again afterwards, as such scripts do."""
    there = lab.hosts["h2"]
    there.exec("nft", *damage.split())
    run(["nft", "-f", "-"], namespace=there.namespace, feed="flush ruleset\n" + DROPPING)
    until("the rules", lambda: "jump ts-forward" in rules(there), 5.0)
    until("the subnet", lambda: all_reached(lab), 5.0)


def rules(host: Host) -> str:
    """All of them."""
    return host.exec("nft", "list", "ruleset").stdout


def test_without_snat_hosts_of_the_subnet_see_the_peer(lab: Lab) -> None:
    """And answer it if they have a route."""
    here, there, far = lab.hosts["h1"], lab.hosts["h2"], far_of(lab)
    there.tnet("set", "--snat-subnet-routes=false")
    until("no masquerading", lambda: "masquerade" not in rules(there), 5.0)
    assert not reaches(here, FAR[0])
    for via, net in (("10.77.0.1", "100.64.0.0/10"), ("fd77::1", "fd7a:115c:a1e0::/48")):
        run(["ip", "-n", far, "route", "add", net, "via", via])
    run(["nft", "add table inet seen"], namespace=far)
    hook = "{ type filter hook input priority 0; }"
    run(["nft", f"add chain inet seen in {hook}"], namespace=far)
    run(["nft", f"add rule inet seen in ip saddr {here.ipv4} counter"], namespace=far)
    assert reaches(here, FAR[0])
    assert reaches(here, FAR[1])
    seen = run(["nft", "list", "table", "inet", "seen"], namespace=far).stdout
    assert re.search(r"packets [1-9]", seen)


def test_stateful_filtering_lets_the_subnet_answer_but_not_begin(lab: Lab) -> None:
    """Off by default."""
    here, there, far = lab.hosts["h1"], lab.hosts["h2"], far_of(lab)
    ping = ["ping", "-n", "-c1", "-W1", str(here.ipv4)]
    assert run(ping, namespace=far, check=False).returncode == 0
    there.tnet("set", "--stateful-filtering")
    until("the rule", lambda: "untracked counter" in rules(there), 5.0)
    assert run(ping, namespace=far, check=False).returncode != 0
    assert reaches(here, FAR[0])


def test_netfilter_off_leaves_it_to_the_administrator(lab: Lab) -> None:
    """Nothing of ours is there, and nothing is let through; on again, all is well."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    there.tnet("set", "--netfilter-mode=off")
    until("no rules", lambda: "ts-" not in rules(there) and "tailnetd" not in rules(there), 5.0)
    assert not reaches(here, FAR[0])
    there.tnet("set", "--netfilter-mode=on", "--stateful-filtering=false", "--snat-subnet-routes")
    until("the subnet", lambda: all_reached(lab), 5.0)


def test_others_rules_are_as_before_after_a_stop(lab: Lab) -> None:
    """Policies, too."""
    there = lab.hosts["h2"]
    there.stop()
    left = re.sub(r"packets \d+ bytes \d+", "", rules(there))
    assert "tailnetd" not in left
    assert "ts-" not in left
    assert left.count("policy drop") == 4
