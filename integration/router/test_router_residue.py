"""What a crash, another program or the original agent left, taken over or taken back."""

import pytest
from integration.router.kernel import OUR_RULES, TUN, in_force, our_rules, rules_and_table
from tests.support.platform_contract import EMPTY, EXIT_NODE_WITH_LAN, NODE
from tests.support.platform_netns import ip, snapshot

from tailnet.platform.interface import PlatformError, Router
from tailnet.platform.linux.residue import cleanup
from tailnet.platform.linux.router import LinuxRouter
from tailnet.platform.linux.tun import open_tun

pytestmark = pytest.mark.netns


async def test_residue_of_a_killed_daemon_is_repaired(pristine: str) -> None:
    """The device is gone; rules and throw routes are not."""
    first = open_tun(TUN)
    router = LinuxRouter(TUN)
    await router.up()
    await router.apply(EXIT_NODE_WITH_LAN)
    clean = rules_and_table()
    first.close()  # all that a killed process does
    assert "throw 10.1.0.0/16" in ip("route", "show", "table", "52")
    second = open_tun(TUN)
    router = LinuxRouter(TUN)
    await router.up()
    assert in_force() == EMPTY
    await router.apply(EXIT_NODE_WITH_LAN)
    assert rules_and_table() == clean
    await router.down()
    second.close()
    assert snapshot() == pristine


async def test_rules_of_the_original_agent_are_replaced(router: Router) -> None:
    """They carry no protocol, and are not doubled."""
    for family in ("-4", "-6"):
        ip(family, "rule", "del", "pref", "5270")
        ip(family, "rule", "add", "pref", "5210", "fwmark", "0x80000/0xff0000", "lookup", "main")
        ip(family, "rule", "add", "pref", "5250", "fwmark", "0x40000", "type", "unreachable")
        ip(family, "rule", "add", "pref", "5270", "lookup", "52")
    await router.up()
    for family in ("-4", "-6"):
        assert our_rules(family) == OUR_RULES
        assert "0x40000" not in ip(family, "rule")


async def test_rule_that_cannot_be_told_from_anothers_stays(router: Router) -> None:
    """Deleting the original agent's would delete an administrator's; it does no harm."""
    for family in ("-4", "-6"):
        ip(family, "rule", "add", "pref", "5270", "lookup", "52")
    await router.up()
    await router.apply(NODE)
    await router.down()
    await cleanup(TUN)
    for family in ("-4", "-6"):
        assert ip(family, "rule").count("lookup 52") == 2


async def test_cleanup_restores_the_host(pristine: str) -> None:
    """After a crash, in both families, and says what it removed."""
    tun = open_tun(TUN)
    router = LinuxRouter(TUN)
    await router.up()
    await router.apply(EXIT_NODE_WITH_LAN)
    tun.close()
    ip("route", "add", "throw", "10.9.0.0/16", "table", "52")  # of the original agent
    removed = await cleanup(TUN)
    assert snapshot() == pristine
    assert "removed IPv4 rule 5270: lookup 52" in removed
    assert "removed IPv6 rule 5250: fwmark 0x80000/0xff0000 unreachable" in removed
    assert "removed route throw 10.1.0.0/16 table 52" in removed
    assert await cleanup(TUN) == []


async def test_cleanup_takes_addresses_from_a_persistent_device(host: None) -> None:
    """Those of a tailnet only."""
    ip("tuntap", "add", TUN, "mode", "tun")
    ip("link", "set", TUN, "up")
    for addr in ("100.64.0.1/32", "10.5.0.1/32", "fd7a:115c:a1e0::1/128"):
        ip("address", "add", addr, "dev", TUN)
    assert await cleanup(TUN) == [
        "removed address 100.64.0.1/32",
        "removed address fd7a:115c:a1e0::1/128",
    ]
    assert "10.5.0.1/32" in ip("address", "show", TUN)


async def test_of_two_daemons_the_second_one_is_refused(pristine: str) -> None:
    """At its start or when the first has connected since; so is a cleanup.  Nothing is touched."""
    first, second = open_tun(TUN), open_tun("tailnet1")
    one, other = LinuxRouter(TUN), LinuxRouter("tailnet1")
    await one.up()
    await other.up()  # nobody has routes yet
    await one.apply(EXIT_NODE_WITH_LAN)
    before = rules_and_table()
    company = r"^another tailnetd has this host's routes \(device tailnet0\)"
    for refused in (other.apply(NODE), other.up(), cleanup("tailnet1")):
        with pytest.raises(PlatformError, match=company):
            await refused
        assert rules_and_table() == before
    await other.down()
    assert rules_and_table() == before
    first.close()  # it died
    await other.up()
    await other.apply(NODE)
    await other.down()
    second.close()
    assert snapshot() == pristine


@pytest.mark.parametrize(
    "damage",
    [
        ["route", "flush", "table", "52"],
        ["-6", "route", "flush", "table", "52"],
        ["rule", "flush"],
        ["-6", "rule", "del", "pref", "5270", "proto", "kernel"],
        ["address", "del", "100.64.0.1/32", "dev", TUN],
        ["link", "set", TUN, "down"],
    ],
    ids=" ".join,
)
async def test_applying_again_repairs(router: Router, damage: list[str]) -> None:
    """What another program removed comes back."""
    await router.up()
    await router.apply(EXIT_NODE_WITH_LAN)
    ip(*damage)
    await router.apply(EXIT_NODE_WITH_LAN)
    assert in_force() == EXIT_NODE_WITH_LAN
    assert our_rules("-4") == our_rules("-6") == OUR_RULES


async def test_down_works_without_the_device(pristine: str) -> None:
    """Rules and throw routes survive it."""
    tun = open_tun(TUN)
    router = LinuxRouter(TUN)
    await router.up()
    await router.apply(EXIT_NODE_WITH_LAN)
    tun.close()
    await router.down()
    assert snapshot() == pristine
