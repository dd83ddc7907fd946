"""Rules that the administrator puts in their place, by the real ``iptables``."""

import shutil
from collections.abc import Iterable

import pytest
from integration.conftest import cannot
from integration.firewall.conftest import Daemon
from integration.firewall.network import ALL, NONE, TUN, Network, ruleset, said

from tailnet.platform.interface import NetfilterMode

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("iptables")]

OFF, NODIVERT, ON = NetfilterMode
TAG = " -m comment --comment tailnetd"
PROGRAMS = {"ip": "iptables", "ip6": "ip6tables"}
DIVERSIONS = (
    ("filter", "INPUT", "ts-input"),
    ("filter", "FORWARD", "ts-forward"),
    ("nat", "POSTROUTING", "ts-postrouting"),
)
INPUT = [
    f"-A ts-input -i {TUN} -j ACCEPT",
    "-A ts-input -p udp -m udp --dport 41641 -j ACCEPT",
]
FORWARD = [
    f"-A ts-forward -i {TUN} -j MARK --set-xmark 0x40000/0xff0000",
    "-A ts-forward -m mark --mark 0x40000/0xff0000 -j ACCEPT",
    f"-A ts-forward -o {TUN} -m conntrack ! --ctstate RELATED,ESTABLISHED,UNTRACKED -j DROP",
    f"-A ts-forward -o {TUN} -j ACCEPT",
]
NAT = ["-A ts-postrouting -m mark --mark 0x40000/0xff0000 -j MASQUERADE"]
LISTED = {
    "ip": [
        "-A ts-input -s 100.64.0.1/32 -i lo -j ACCEPT",
        *INPUT,
        "-A ts-input -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
        "-A ts-input -s 100.115.92.0/23 -j RETURN",
        "-A ts-input -s 100.64.0.0/10 -j DROP",
        *FORWARD[:2],
        f"-A ts-forward -s 100.64.0.0/10 -o {TUN} -j DROP",
        *FORWARD[2:],
        *NAT,
    ],
    "ip6": ["-A ts-input -s fd7a:115c:a1e0::1/128 -i lo -j ACCEPT", *INPUT, *FORWARD, *NAT],
}


@pytest.fixture(scope="module")
def iptables() -> None:
    """The program itself."""
    if shutil.which("iptables-nft") is None:
        cannot("needs iptables")


@pytest.fixture
def dropping(net: Network) -> Network:
    """A host that lets nothing in or through, whose firewall is iptables."""
    for program in PROGRAMS.values():
        for chain in ("INPUT", "FORWARD"):
            said(program, "-P", chain, "DROP")
        said(
            program, "-A", "INPUT", "-i", "eth7", "-m", "comment", "--comment", "mine", "-j", "DROP"
        )
        said(
            program, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"
        )
        said(program, "-t", "nat", "-A", "POSTROUTING", "-o", "eth7", "-j", "MASQUERADE")
        if program == "ip6tables":  # or no neighbour is found
            said(program, "-A", "INPUT", "-p", "ipv6-icmp", "--icmpv6-type", "136", "-j", "ACCEPT")
            said(program, "-A", "INPUT", "-p", "ipv6-icmp", "--icmpv6-type", "135", "-j", "ACCEPT")
    write_again()
    return net


def write_again() -> None:
    """As happens when a machine starts; iptables then makes all its chains."""
    for program in PROGRAMS.values():
        said(f"{program}-restore", feed=said(f"{program}-save"))


def divert(how: str = "-I") -> None:
    """As the administrator does, or takes back."""
    for program in PROGRAMS.values():
        for table, chain, ours in DIVERSIONS:
            said(program, "-t", table, how, chain, "-j", ours)


def saved(family: str) -> list[str]:
    """The rules of our chains in the words of ``iptables-save``, which must understand all."""
    lines = said(f"{PROGRAMS[family]}-save").replace(TAG, "").splitlines()
    return by_chain(line for line in lines if line.startswith("-A ts-"))


def by_chain(rules: Iterable[str]) -> list[str]:
    """Those of one chain together, in their order."""
    return sorted(rules, key=lambda rule: rule.split()[1])


def test_the_chains_are_there_and_nothing_jumps_to_them(dropping: Network, daemon: Daemon) -> None:
    """Whole, in the words of the administrator's own program; they do nothing."""
    before = dropping.flows()
    daemon.switch(NODIVERT)
    assert {family: saved(family) for family in PROGRAMS} == {
        family: by_chain(rules) for family, rules in LISTED.items()
    }
    assert "jump ts-" not in ruleset()
    assert "table inet" not in ruleset()
    assert dropping.flows() == before == NONE
    assert daemon.intact()


def test_they_do_what_they_say_once_the_administrator_jumps(
    dropping: Network, daemon: Daemon
) -> None:
    """His jumps stay whatever we do; masquerading is a choice here as well."""
    daemon.switch(NODIVERT)
    divert()
    assert dropping.flows() == ALL
    daemon.switch(NODIVERT, snat=False)
    assert dropping.flows() == ALL | {"peer to subnet": False}
    daemon.switch(NODIVERT)
    assert dropping.flows() == ALL
    assert daemon.intact()


def test_each_mode_leaves_exactly_what_it_means(dropping: Network, daemon: Daemon) -> None:
    """Whatever the one before was."""
    means = {}
    for mode in (ON, NODIVERT, OFF):
        daemon.switch(mode)
        means[mode] = ruleset()
    assert len(set(means.values())) == 3
    assert dropping.flows() == NONE
    for mode in (NODIVERT, ON, NODIVERT, OFF, ON, OFF):
        daemon.switch(mode)
        assert ruleset() == means[mode], mode
    daemon.switch(NODIVERT)
    daemon.down()
    assert ruleset() == means[OFF]


def test_his_jumps_outlive_our_rules(dropping: Network, daemon: Daemon) -> None:
    """Then they lead to empty chains, which go when he has taken the jumps back."""
    before = ruleset()
    daemon.switch(NODIVERT)
    divert()
    for mode in (ON, OFF):
        daemon.switch(mode)
        assert "-j ts-input" in said("iptables", "-S", "INPUT")
    assert saved("ip") == []
    assert dropping.flows() == NONE
    daemon.switch(NODIVERT)
    assert dropping.flows() == ALL
    daemon.down()
    divert("-D")
    daemon.down()
    assert ruleset() == before


def test_where_there_are_no_tables_they_are_made_and_go(net: Network, daemon: Daemon) -> None:
    """With what others put there meanwhile they stay."""
    assert ruleset() == ""
    daemon.switch(NODIVERT)
    assert net.flows() == ALL | {"peer to subnet": False}
    daemon.down()
    assert ruleset() == ""
    daemon.switch(NODIVERT)
    divert()
    assert net.flows() == ALL
    divert("-D")
    daemon.down()
    assert "ts-" not in ruleset()
    assert ruleset().count("chain INPUT") == 2


def test_a_jump_that_iptables_wrote_again_is_still_ours(dropping: Network, daemon: Daemon) -> None:
    """``iptables-restore`` of what was saved while the daemon ran."""
    before = ruleset()
    daemon.switch(ON)
    write_again()
    assert dropping.flows() == ALL
    daemon.down()
    assert ruleset() == before
