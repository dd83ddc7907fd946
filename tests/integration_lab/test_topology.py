"""Topologies: what they hold and what they refuse."""

from itertools import product

import pytest
from integration.lab.kinds import KINDS, can_meet, translated
from integration.lab.topology import INTERNET, MAX_HOSTS, HostSpec, Topology, flat


def test_hosts_get_addresses_in_order() -> None:
    """From .11, in both families."""
    topology = flat("a", "b", udp=False)
    assert [str(host.ipv4) for host in topology.hosts] == ["10.99.0.11/24", "10.99.0.12/24"]
    assert [str(host.ipv6) for host in topology.hosts] == ["fd99::11/64", "fd99::12/64"]
    assert not topology.udp


def test_every_address_is_on_the_segment() -> None:
    """Up to the largest lab."""
    topology = flat(*(f"h{n}" for n in range(MAX_HOSTS)))
    assert all(host.ipv4.ip in INTERNET.ipv4.network for host in topology.hosts)
    assert all(host.ipv6 and host.ipv6.ip in INTERNET.ipv6.network for host in topology.hosts)


@pytest.mark.parametrize("name", ["", "H1", "h-1", "1h", "abcdefghijklm", "h1/x", "h 1"])
def test_name_that_does_not_fit_is_refused(name: str) -> None:
    """Names become parts of namespace and interface names."""
    with pytest.raises(ValueError, match="not a host name"):
        flat(name)


def test_longest_name_fits_an_interface_name() -> None:
    """``v-NAME`` is a port of the bridge: 15 characters at most."""
    assert len(f"v-{flat('abcdefghijkl').hosts[0].name}") <= 15


def test_names_are_unique() -> None:
    """Also against the segment's."""
    with pytest.raises(ValueError, match="same name"):
        flat("a", "a")
    host = flat("b").hosts[0]
    with pytest.raises(ValueError, match="same name"):
        Topology(INTERNET, (HostSpec("inet", host.ipv4, host.ipv6),))


def test_too_many_hosts_are_refused() -> None:
    """The last octet would overflow."""
    with pytest.raises(ValueError, match="at most"):
        flat(*(f"h{n}" for n in range(MAX_HOSTS + 1)))


def test_hosts_behind_routers_have_a_way_out_and_no_ipv6() -> None:
    """Each through routers of its own, outer ones first; no two networks are the same."""
    topology = translated(a="open", b="port", c="double")
    assert [host.behind for host in topology.hosts] == ["", "r0b", "r1c"]
    assert [host.ipv6 is None for host in topology.hosts] == [False, True, True]
    outer, middle, inner = topology.routers
    assert (outer.behind, middle.behind, inner.behind) == ("", "", "r0c")
    assert middle.inner == (inner.wan.ip,)
    assert inner.inner == (topology.hosts[2].ipv4.ip,)
    assert len({router.lan.network for router in topology.routers}) == 3


def test_hosts_share_a_router_where_that_is_the_question() -> None:
    """Hairpinning needs two behind one; IPv6 and opened ports have addresses of their own."""
    topology = translated(a="hair", b="hair", c="six", d="upnp")
    shared, six, mapped = topology.routers
    assert shared.inner == tuple(host.ipv4.ip for host in topology.hosts[:2])
    assert six.ipv6 is not None
    assert topology.hosts[2].ipv6 is not None
    assert mapped.outside is not None
    assert mapped.outside.is_global


def test_theory_of_pairs() -> None:
    """The same whoever begins; only ports that must be guessed keep two apart."""
    for one, two in product(KINDS, repeat=2):
        assert can_meet(one, two) == can_meet(two, one)
    assert can_meet("sym", "addr")
    assert not can_meet("sym", "port")
    assert can_meet("hair", "hair")
    assert not can_meet("nohair", "nohair")
    assert can_meet("hair", "nohair")
    assert can_meet("six", "open")
    assert can_meet("six", "six")
    assert not can_meet("six", "sym")
    assert can_meet("upnp", "sym")
    assert not can_meet("upnp", "blocked")
