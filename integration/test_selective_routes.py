"""Two routers of one subnet, what is accepted of it, and networks of one's own inside of it.

::

    h1 ── bridge: control, DERP, STUN ── h2 (10.77.0.1) ─┬─ LAN 10.77.0.0/24, fd77::/64
                                      └─ h3 (10.77.0.2) ─┘   far 10.77.0.9

Both routers advertise 10.77.0.0/24 and fd77::/64; h1 has a link of its own, 10.77.0.128/25, with a
neighbour.  ``far`` counts whom it sees: routers masquerade.
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

ROUTES = "10.77.0.0/24,fd77::/64"
SEEN = """
table inet seen {
	chain in {
		type filter hook input priority 0;
		ip saddr 10.77.0.1 counter
		ip saddr 10.77.0.2 counter
	}
}
"""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """The LAN is a bridge in a namespace ``TAG-far``, which goes with the lab."""
    lab = make_lab(flat("h1", "h2", "h3"))
    far, near = (
        f"{lab.hosts['h1'].namespace.rpartition('-')[0]}-{name}" for name in ("far", "near")
    )
    for ns in (far, near):
        run(["ip", "netns", "add", ns])
    run(["ip", "-n", far, "link", "add", "lan", "type", "bridge"])
    for name, number in (("h2", 1), ("h3", 2)):
        ns = lab.hosts[name].namespace
        peer = ["type", "veth", "peer", name, "netns", far]
        run(["ip", "-n", ns, "link", "add", "lan0", *peer])
        run(["ip", "-n", far, "link", "set", name, "master", "lan", "up"])
        addressed(ns, "lan0", f"10.77.0.{number}/24", f"fd77::{number}/64")
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            lab.hosts[name].exec("sysctl", "-qw", f"{key}=1")
    addressed(far, "lan", "10.77.0.9/24", "fd77::9/64")
    run(["nft", "-f", "-"], namespace=far, feed=SEEN)
    here = lab.hosts["h1"]
    peer = ["type", "veth", "peer", "eth0", "netns", near]
    run(["ip", "-n", here.namespace, "link", "add", "own0", *peer])
    addressed(here.namespace, "own0", "10.77.0.129/25")
    addressed(near, "eth0", "10.77.0.130/25")
    for host in lab.hosts.values():
        host.start()
    here.up(AUTH_KEY)
    here.tnet("set", "--accept-routes=false")
    for name in ("h2", "h3"):
        lab.hosts[name].up(AUTH_KEY, f"--advertise-routes={ROUTES}")
        lab.hosts[name].tnet("set", "--accept-routes=false")
    lab.wait_complete()
    return lab


def addressed(namespace: str, device: str, *addresses: str) -> None:
    """Up, with these."""
    for address in addresses:
        nodad = ["nodad"] if ":" in address else []
        run(["ip", "-n", namespace, "address", "add", address, "dev", device, *nodad])
    run(["ip", "-n", namespace, "link", "set", device, "up"])


def reaches(host: Host, address: object) -> bool:
    """One ping is answered."""
    return host.exec("ping", "-n", "-c1", "-W1", str(address), check=False).returncode == 0


def seen(lab: Lab) -> tuple[int, int]:
    """Packets that far had from each router."""
    far = f"{lab.hosts['h1'].namespace.rpartition('-')[0]}-far"
    listed = run(["nft", "list", "table", "inet", "seen"], namespace=far).stdout
    first, second = map(int, re.findall(r"packets (\d+)", listed))
    return first, second


def table(host: Host) -> str:
    """Table 52, both families."""
    shown = [host.exec("ip", f, "route", "show", "table", "52").stdout for f in ("-4", "-6")]
    return "".join(shown)


def test_a_dry_run_says_what_would_change_and_changes_nothing(lab: Lab) -> None:
    """Nothing is accepted yet."""
    here = lab.hosts["h1"]
    assert "10.77.0.0/24" in here.tnet("routes").stdout
    assert "not accepted" in here.tnet("routes").stdout
    said = here.tnet("routes", "--dry-run", "--accept-routes=10.77.0.8/29,peer:h3").stdout
    assert said == "+ 10.77.0.8/29 via h2\n"
    assert here.tnet("routes", "--dry-run").stdout == (
        "+ 10.77.0.0/24 via h2 (this machine's own network is reached directly: 10.77.0.128/25)\n"
        "+ fd77::/64 via h2\n"
    )
    assert "10.77" not in table(here)
    assert not reaches(here, "10.77.0.9")


def test_only_what_is_named_is_routed(lab: Lab) -> None:
    """A part by its prefix, all of a peer by its name."""
    here = lab.hosts["h1"]
    here.tnet("set", "--accept-routes=10.77.0.8/29")
    until("the part", lambda: reaches(here, "10.77.0.9"), 10.0)
    assert "10.77.0.8/29 dev" in table(here)
    assert "10.77.0.0/24" not in table(here)
    assert not reaches(here, "fd77::9")
    assert "accepted in part: 10.77.0.8/29" in here.tnet("routes").stdout
    here.tnet("set", "--accept-routes=peer:h3")
    until("nothing", lambda: "10.77" not in table(here), 10.0)
    here.tnet("set", "--accept-routes=peer:h2,peer:h3")
    until("all", lambda: reaches(here, "10.77.0.9") and reaches(here, "fd77::9"), 10.0)


def test_a_network_of_ones_own_stays_although_a_route_covers_it(lab: Lab) -> None:
    """Its neighbour is there, with everything accepted; and it comes and goes."""
    here = lab.hosts["h1"]
    here.tnet("set", "--accept-routes")
    until("the route", lambda: reaches(here, "10.77.0.9"), 10.0)
    assert "throw 10.77.0.128/25" in table(here)
    assert reaches(here, "10.77.0.130")


def test_the_other_router_takes_over(lab: Lab) -> None:
    """When the first one goes, and back; nothing is set by hand."""
    here, first = lab.hosts["h1"], lab.hosts["h2"]
    before = seen(lab)
    assert reaches(here, "10.77.0.9")
    assert seen(lab)[0] > before[0]
    assert seen(lab)[1] == before[1]
    assert re.search(
        r"10.77.0.0/24 +this machine +standby \(h2 has it\)", table_of(lab.hosts["h3"])
    )
    first.kill9()
    until("the other one", lambda: reaches(here, "10.77.0.9"), 30.0)
    until("its IPv6", lambda: reaches(here, "fd77::9"), 5.0)
    assert seen(lab)[1] > before[1]
    assert re.search(r"10.77.0.0/24 +h3 +accepted", table_of(here))
    middle = seen(lab)
    first.start()
    first.wait_running()
    until("the first one", lambda: reaches(here, "10.77.0.9") and seen(lab)[0] > middle[0], 30.0)


def table_of(host: Host) -> str:
    """By ``tnet routes``."""
    return host.tnet("routes").stdout


def test_a_narrower_route_of_another_router_wins(lab: Lab) -> None:
    """Overlapping routes: the longest prefix decides, as in any kernel."""
    here, there = lab.hosts["h1"], lab.hosts["h3"]
    there.tnet("set", "--advertise-routes=10.77.0.8/29")
    until("the narrower one", lambda: "10.77.0.8/29 dev" in table(here), 10.0)
    before = seen(lab)
    until("an answer", lambda: reaches(here, "10.77.0.9"), 5.0)
    assert seen(lab)[1] > before[1]
    assert reaches(here, "10.77.0.1")
    there.tnet("set", f"--advertise-routes={ROUTES}")
    until("it is gone", lambda: "10.77.0.8/29" not in table(here), 10.0)


def test_a_site_is_a_route_like_any_other(lab: Lab) -> None:
    """What happens behind it: ``test_sites``."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    site = "fd7a:115c:a1e0:b1a:0:7:a4d:0/120"
    assert "4via6" not in there.tnet("set", f"--advertise-routes={ROUTES},{site}").stderr
    until("the route", lambda: site in table(here), 10.0)
    assert re.search(rf"{re.escape(site)} +h2 +accepted", table_of(here))


def test_bad_prefixes_are_refused_and_what_was_set_stays(lab: Lab) -> None:
    """Malformed, with host bits, one default route alone; an unknown exit node."""
    here = lab.hosts["h1"]
    before = here.tnet("get", "--json").stdout
    for flag, said in (
        ("--accept-routes=10.77.0.8/240", "not a valid CIDR prefix"),
        ("--accept-routes=10.77.0.9/24", "expected 10.77.0.0/24"),
        ("--advertise-routes=10.77.0.9/24", "expected 10.77.0.0/24"),
        ("--advertise-routes=0.0.0.0/0", "please also advertise ::/0"),
        ("--exit-node=nobody", "no peer found: nobody"),
    ):
        refused = here.tnet("set", flag, check=False)
        assert (refused.returncode, said in refused.stderr) == (1, True)
        assert refused.stderr.count("\n") == 1
    assert here.tnet("get", "--json").stdout == before


def test_a_peer_that_is_gone_is_not_looked_for_in_the_internet(lab: Lab) -> None:
    """Its address goes nowhere, where the default route would have taken the packets."""
    here, address = lab.hosts["h1"], str(lab.hosts["h3"].ipv4)
    here.exec("ip", "route", "replace", "default", "via", "10.99.0.1")
    until("the peer", lambda: reaches(here, address), 10.0)
    lab.hosts["h3"].kill9()  # or it may come back by itself
    lab.admin("delete", name="h3")
    until("no route", lambda: f"unreachable {address}" in table(here), 10.0)
    asked = here.exec("ip", "route", "get", address, check=False)
    assert "eth0" not in asked.stdout
    assert not reaches(here, address)
