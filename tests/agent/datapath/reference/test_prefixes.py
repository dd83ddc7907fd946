"""Longest prefix match against the obvious one."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.datapath.reference.prefixes import Prefixes

networks = st.builds(
    lambda number, length: IPv4Network((number >> (32 - length) << (32 - length), length)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 8, 10, 24, 31, 32]),
)


@given(st.dictionaries(networks, st.integers(1, 5), max_size=12), st.data())
def test_lookup_equals_the_naive_search(table: dict[IPv4Network, int], data: st.DataObject) -> None:
    """Also after some prefixes are removed."""
    prefixes: Prefixes[int] = Prefixes()
    for net, value in table.items():
        prefixes.insert(net, value)
    assert len(prefixes) == len(table)
    for net in data.draw(st.sets(st.sampled_from(sorted(table)))) if table else ():
        prefixes.remove(net, table.pop(net))
    assert len(prefixes) == len(table)
    for number in data.draw(st.lists(st.integers(0, 2**32 - 1), max_size=5)):
        address = IPv4Address(number)
        inside = [net for net in table if address in net]
        best = max(inside, key=lambda net: net.prefixlen, default=None)
        assert prefixes.lookup(address.packed) == (table[best] if best else None)


def test_families_do_not_meet() -> None:
    """A default route of IPv6 says nothing about IPv4."""
    prefixes: Prefixes[int] = Prefixes()
    prefixes.insert(IPv6Network("::/0"), 1)
    assert prefixes.lookup(bytes(4)) is None
    assert prefixes.lookup(bytes(16)) == 1


def test_remove_leaves_what_another_value_took() -> None:
    """The last writer of a prefix keeps it."""
    prefixes: Prefixes[int] = Prefixes()
    net = IPv4Network("10.0.0.0/8")
    prefixes.insert(net, 1)
    prefixes.insert(net, 2)
    prefixes.remove(net, 1)
    assert prefixes.lookup(bytes((10, 0, 0, 1))) == 2
