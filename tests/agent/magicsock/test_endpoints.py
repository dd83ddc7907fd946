"""Our own addresses."""

from ipaddress import ip_address

from tailnet.agent.addr import AddrPort
from tailnet.agent.magicsock.endpoints import (
    TRACKED_FOR,
    TRACKED_PER_IP,
    InterfaceAddr,
    Kind,
    Ports,
    Tracker,
    collect,
    ip_versions,
    local_addresses,
)
from tailnet.agent.netcheck.report import Report

SEEN = AddrPort.parse("5.5.5.5:1234")
PORTS = Ports(41641, 41642)


def iface(text: str, name: str = "eth0", *, up: bool = True) -> InterfaceAddr:
    """An address with its prefix."""
    ip, _, prefix = text.partition("/")
    return InterfaceAddr(name, ip_address(ip), int(prefix), up)


def local(*interfaces: InterfaceAddr) -> list[str]:
    """What is told of these."""
    return [str(ip) for ip in local_addresses(interfaces, {"tnet0"})]


def report(*seen: AddrPort, hard_nat: bool | None = None) -> Report:
    """STUN's findings."""
    return Report({}, seen, hard_nat, asked=True)


def test_only_addresses_of_use_are_told() -> None:
    """Not our tunnel's, other overlays', tailnet ones, scoped ones, or those of dead links."""
    assert local(
        iface("10.0.0.2/24"),
        iface("10.0.9.2/24", up=False),
        iface("10.0.8.2/24", "tnet0"),
        iface("10.0.7.2/24", "zt5u4y"),
        iface("10.0.6.2/24", "wt0"),
        iface("100.64.0.5/32"),
        iface("fd7a:115c:a1e0::5/128"),
        iface("fe80::1/64"),
        iface("127.0.0.1/8", "lo"),
        iface("169.254.3.4/16"),
        iface("fd00::5/64"),
        iface("2001:db8::5/64"),
    ) == ["10.0.0.2", "2001:db8::5"]


def test_servers_are_asked_by_every_version_that_may_lead_out() -> None:
    """A private IPv6 address is not told beside one of IPv4, but a router may translate it."""
    four, six = iface("10.0.0.2/24"), iface("fd00::5/64")
    assert local(four, six) == ["10.0.0.2"]
    assert ip_versions([four, six]) == {4, 6}
    assert ip_versions([four, six], {"eth0"}) == set()
    nowhere = [iface("127.0.0.1/8", "lo"), iface("fe80::1/64"), iface("fd7a:115c:a1e0::5/128")]
    assert ip_versions([*nowhere, iface("fd00::6/64", up=False)]) == set()


def test_poor_addresses_are_told_if_there_is_nothing_better() -> None:
    """Link-local IPv4 and private IPv6, then loopback."""
    poor = [iface("169.254.3.4/16"), iface("fd00::5/64"), iface("127.0.0.1/8", "lo")]
    assert local(*poor) == ["169.254.3.4", "fd00::5"]
    assert local(poor[2]) == ["127.0.0.1"]
    assert local() == []


def test_two_addresses_per_ipv6_subnet() -> None:
    """Temporary addresses would crowd out everything else."""
    many = [iface(f"2001:db8::{n}/64") for n in range(1, 6)]
    assert len(local(*many, iface("2001:db8:1::1/64"))) == 3


def test_endpoints_are_told_once_best_first() -> None:
    """What STUN saw comes before local addresses; the first kind stays."""
    mine = AddrPort.parse("10.0.0.2:41641")
    ips = [mine.ip, ip_address("2001:db8::5")]
    found = collect(report(SEEN, mine), ips, PORTS, Tracker(), 0.0)
    assert found == (
        (SEEN, Kind.STUN),
        (mine, Kind.STUN),
        (AddrPort.parse("[2001:db8::5]:41642"), Kind.LOCAL),
    )


def test_a_mapping_of_the_gateway_comes_first_and_is_remembered_like_the_others() -> None:
    """It is the one that works whoever asks."""
    tracker, mapped = Tracker(), AddrPort.parse("5.5.5.5:30000")
    found = collect(report(SEEN), [], PORTS, tracker, 0.0, mapped=mapped)
    assert found == ((mapped, Kind.PORTMAPPED), (SEEN, Kind.STUN))
    assert (mapped, Kind.PORTMAPPED) in collect(report(SEEN), [], PORTS, tracker, TRACKED_FOR)


def test_hard_nat_may_forward_our_port_by_hand() -> None:
    """So it is told too, with the outer address."""
    found = collect(report(SEEN, hard_nat=True), [], PORTS, Tracker(), 0.0)
    assert found[1] == (AddrPort.parse("5.5.5.5:41641"), Kind.STUN4_LOCAL_PORT)


def test_families_without_socket_have_no_local_endpoints() -> None:
    """Nobody listens there."""
    assert not collect(report(), [ip_address("2001:db8::5")], Ports(1, 0), Tracker(), 0.0)


def test_lost_answers_take_no_endpoint_away_for_five_minutes() -> None:
    """Then they do; another network forgets at once."""
    tracker = Tracker()
    collect(report(SEEN), [], PORTS, tracker, 0.0)
    assert collect(report(), [], PORTS, tracker, TRACKED_FOR) == ((SEEN, Kind.STUN),)
    assert collect(report(), [], PORTS, tracker, TRACKED_FOR + 1) == ()
    collect(report(SEEN), [], PORTS, tracker, 400.0)
    tracker.clear()
    assert collect(report(), [], PORTS, tracker, 400.0) == ()


def test_ports_of_one_address_are_bounded() -> None:
    """A NAT that changes its mapping all the time leaves the latest few."""
    tracker = Tracker()
    for port in range(1, 20):
        collect(report(AddrPort.of("5.5.5.5", port)), [], PORTS, tracker, float(port))
    assert [a.port for a, _ in tracker.known()] == list(range(20 - TRACKED_PER_IP, 20))
