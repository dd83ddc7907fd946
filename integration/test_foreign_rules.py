"""Another VPN that wants its rules to be asked first.

::

    h1 (and the rules of the other) ── bridge: control, DERP, STUN ── h2
"""

import json

import pytest
from integration.conftest import MakeLab
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.topology import flat
from integration.lab.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

CODE = "foreign-routing-rules"
# What it says, and what ``ip`` says of it.
RULES = {
    "not fwmark 0x6d/0xff lookup 777": "5208:\tnot from all fwmark 0x6d/0xff lookup 777",
    "lookup 777": "5270:\tfrom all lookup 777",
}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Two hosts in contact."""
    lab = make_lab(flat("h1", "h2"))
    lab.join("h1", "h2")
    lab.wait_complete()
    return lab


def warnings(host: Host) -> str:
    """What health says, all in one line."""
    return " ".join(json.loads(host.tnet("status", "--json").stdout)["Health"] or ())


def reaches(host: Host, address: object) -> bool:
    """One ping is answered."""
    return host.exec("ping", "-n", "-c1", "-W1", str(address), check=False).returncode == 0


@pytest.mark.parametrize("rule", RULES, ids=["before ours", "at our priority"])
def test_a_rule_that_is_asked_first_is_told_and_left_alone(lab: Lab, rule: str) -> None:
    """What it does not take still gets to peers; the warning goes with the rule."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    shown = RULES[rule]
    priority = shown.partition(":")[0]
    add = ["ip", "rule", "add", "pref", priority, *rule.split()]
    here.exec("ip", "route", "replace", "10.200.0.0/16", "dev", "lo", "table", "777")
    here.stop()
    here.exec(*add)
    here.start()
    here.wait_running(20.0)
    until("the warning", lambda: f"rule {priority}: {rule}" in warnings(here), 10.0)
    until("the peer", lambda: reaches(here, there.ipv4) and reaches(here, there.ipv6), 10.0)
    assert shown in here.exec("ip", "rule").stdout.splitlines()
    here.exec("ip", "route", "replace", "100.64.0.0/10", "dev", "lo", "table", "777")
    assert here.exec("ip", "route", "get", str(there.ipv4)).stdout.split()[2] == "lo"
    here.exec("ip", "rule", "del", "pref", priority, *rule.split())
    until("no warning", lambda: "another program" not in warnings(here), 10.0)
    assert reaches(here, there.ipv4)
    here.exec(*add)
    until("the warning", lambda: f"rule {priority}: {rule}" in warnings(here), 10.0)
    here.exec("ip", "route", "flush", "table", "777")
    here.stop()
    assert shown in here.exec("ip", "rule").stdout.splitlines()
    here.exec("ip", "rule", "del", "pref", priority, *rule.split())
    here.start()
    here.wait_running(20.0)
    assert "another program" not in warnings(here)


@pytest.mark.parametrize(
    "rule",
    [
        "to 192.0.2.0/24 lookup main",
        "from 10.200.0.0/16 lookup 777",
        "lookup main suppress_prefixlength 0",
        "fwmark 0x1 lookup 777",
        "iif lo lookup 777",
    ],
)
def test_a_rule_for_some_packets_only_is_nobodys_business(lab: Lab, rule: str) -> None:
    """Administrators have such."""
    here = lab.hosts["h1"]
    here.exec("ip", "rule", "add", "pref", "5205", *rule.split())
    here.exec("ip", "rule", "add", "pref", "5206", "lookup", "778")  # which is
    until("the warning", lambda: "rule 5206" in warnings(here), 10.0)
    assert "5205" not in warnings(here)
    for priority in ("5205", "5206"):
        here.exec("ip", "rule", "del", "pref", priority)
    until("no warning", lambda: "another program" not in warnings(here), 10.0)


def test_a_second_daemon_is_refused_and_the_first_one_loses_nothing(lab: Lab) -> None:
    """With everything of its own but the host's routing table; nor does its cleanup take any."""
    here, there = lab.hosts["h1"], lab.hosts["h2"]
    dumps = ("ip rule", "ip -6 rule", "ip route show table 52", "nft -s list ruleset")
    words = "; ".join((*dumps, "cat /etc/resolv.conf"))
    before = here.exec("sh", "-c", words).stdout
    assert "100.100.100.100" in before
    own = [f"--{what}={lab.directory}/second.{what}" for what in ("socket", "statedir")]
    command = here.daemon_command("--tun=tailnet1", "--port=0", *own)
    for more in ([], ["--cleanup"]):
        refused = here.exec(*command, *more, check=False)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1] == (
            "tailnetd: another tailnetd has this host's routes (device tailnet0); stop it, "
            "or run this one with --tun=userspace-networking"
        )
        assert here.exec("sh", "-c", words).stdout == before
    assert reaches(here, there.ipv4)
