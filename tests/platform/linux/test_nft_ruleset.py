"""Which rules are wanted; nothing here touches the kernel."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.interface import FirewallConfig, Guard
from tailnet.platform.linux.nft.encode import TAG, add_rule, batch, replace_table
from tailnet.platform.linux.nft.guard import Around, exit_table, guard_table
from tailnet.platform.linux.nft.messages import comment, comments_untrusted
from tailnet.platform.linux.nft.ruleset import accepts, own_table, undiverted
from tailnet.platform.linux.nft.syntax import Chain, Family, Prefix, SetMark, Table, Verdict
from tailnet.platform.linux.rules import Selector

IPS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
WALLS = st.builds(
    FirewallConfig,
    addrs=st.frozensets(IPS, max_size=3),
    ports=st.frozensets(st.integers(1, 65535), max_size=3),
    snat=st.booleans(),
    stateful=st.booleans(),
    cgnat_drop=st.booleans(),
)
TUN = "tailscale0"
WALL = FirewallConfig(addrs=frozenset({ip_address("100.64.0.1")}), ports=frozenset({41641}))


def chain(table: Table, name: str) -> list[str]:
    """The rules of one chain as text."""
    (found,) = (c for c in table.chains if c.name == name)
    return [str(r) for r in found.rules]


def test_the_drop_of_tailnet_addresses_comes_after_all_its_exceptions() -> None:
    """Two nodes behind one carrier's NAT reach each other by such addresses, outside the tunnel."""
    lines = chain(own_table(TUN, WALL), "in")
    assert lines[-1] == "ip saddr 100.64.0.0/10 counter drop"
    assert "udp dport 41641 return" in lines[:-1]
    assert "ct state established,related return" in lines[:-1]
    assert "ip saddr 100.115.92.0/23 return" in lines[:-1]


def test_masquerading_and_statefulness_are_choices() -> None:
    """Of the user, for what is behind us."""
    table = own_table(TUN, WALL)
    assert chain(table, "post") == ["meta mark & 0x00ff0000 == 0x00040000 masquerade"]
    assert not any("ct state" in line for line in chain(table, "fwd"))
    other = own_table(TUN, FirewallConfig(snat=False, stateful=True))
    assert chain(other, "post") == []
    assert chain(other, "fwd")[-1].endswith(
        "ct state != established,related,untracked counter drop"
    )


def test_a_tailnet_that_shares_its_range_with_others_drops_nothing() -> None:
    """A capability says so."""
    names = [c.name for c in own_table(TUN, FirewallConfig(cgnat_drop=False)).chains]
    assert "in" not in names


@given(WALLS)
def test_accepts_are_for_one_family_and_of_what_iptables_can_list(wall: FirewallConfig) -> None:
    """No marks are set there, no states are matched, nothing is dropped."""
    for family, version in ((Family.IPV4, 4), (Family.IPV6, 6)):
        entering, forwarded = accepts(TUN, wall, family)
        own = [line for line in map(str, entering.rules) if "saddr" in line]
        assert len(own) == sum(ip.version == version for ip in wall.addrs)
        for part in (p for c in (entering, forwarded) for r in c.rules for p in r.parts):
            assert not isinstance(part, SetMark)
            assert part is not Verdict.DROP
            assert "ct " not in str(part)


NETS = IPS.map(ip_network)
MARKS = st.integers(0, 0xFFFFFFFF)
NAMES = st.text("abc0", max_size=15)
SELECTORS = st.builds(Selector, st.none() | NETS, st.none() | NETS, MARKS, MARKS, NAMES, NAMES)
AROUNDS = st.builds(
    Around,
    st.frozensets(NETS, max_size=3),
    st.frozensets(NAMES, max_size=2),
    st.lists(SELECTORS, max_size=3).map(tuple),
)


@given(WALLS, st.frozensets(NETS, max_size=3), AROUNDS)
def test_everything_wanted_can_be_encoded(
    wall: FirewallConfig, local: frozenset[Prefix], around: Around
) -> None:
    """Into messages that the library packs."""
    tables = own_table(TUN, wall), guard_table(TUN, Guard(local)), exit_table(TUN, around)
    for table in tables:
        for message in batch(list(replace_table(table))):
            message.encode()
            assert message.data


@pytest.mark.parametrize("table", [guard_table(TUN, Guard()), exit_table(TUN, Around())])
def test_a_guard_ends_with_a_drop_of_everything_else(table: Table) -> None:
    """In both directions that lead out."""
    assert [str(c.rules[-1]) for c in table.chains] == ["counter drop"] * 2


def test_what_an_exit_nodes_guard_lets_pass() -> None:
    """A link's own, what a bridge passes on, and by whom an administrator has a rule of his own."""
    lan, server = ip_network("192.168.7.0/24"), ip_network("198.51.100.0/24")
    detours = (
        Selector(dst=server),
        Selector(src=lan, iif="docker0"),
        Selector(mark=7, mask=0xF, iif="lo"),
        Selector(oif="wan1"),
    )
    table = exit_table(TUN, Around(frozenset({lan}), frozenset({"br0"}), detours))
    to = [f"ip daddr {net} accept" for net in (lan, "224.0.0.0/24", "255.255.255.255/32")]
    to += [f"ip6 daddr {net} accept" for net in ("fe80::/10", "ff02::/16")]
    server_too, wan = f"ip daddr {server} accept", 'oifname "wan1" accept'
    own = [*to, server_too, "meta mark & 0x0000000f == 0x00000007 accept", wan]
    assert chain(table, "out")[-len(own) - 1 : -1] == own
    others = [*to, server_too, f'iifname "docker0" ip saddr {lan} accept', wan]
    assert chain(table, "fwd")[2:-1] == ['iifname "br0" oifname "br0" accept', *others]


def test_a_table_is_written_as_nft_would() -> None:
    """For logs and for ``tnet debug``."""
    table = Table(Family.INET, "x", (Chain("c", (own_table(TUN, WALL).chains[0].rules[0],)),))
    assert str(table).startswith("table inet x {\n  chain c {\n    ct state")
    assert "fib daddr type local" in str(table)


@given(WALLS)
def test_without_diversion_nothing_meets_packets_by_itself(wall: FirewallConfig) -> None:
    """Chains are there, each once, whatever they hold, and their rules can be encoded."""
    for family in (Family.IPV4, Family.IPV6):
        places = undiverted(TUN, wall, family)
        assert [(table, c.name) for table, c in places] == [
            ("filter", "ts-input"),
            ("filter", "ts-forward"),
            ("nat", "ts-postrouting"),
        ]
        for table, found in places:
            assert found.hook is None
            for line in found.rules:
                add_rule(family, table, found.name, line).encode()


def test_without_diversion_the_drops_come_after_what_is_accepted() -> None:
    """The order alone says what is an exception."""
    (_, entering), (_, forwarded), _ = undiverted(TUN, WALL, Family.IPV4)
    lines = [str(r) for r in entering.rules]
    assert lines[-1] == "ip saddr 100.64.0.0/10 counter drop"
    assert lines.index(f'iifname "{TUN}" accept') < len(lines) - 1
    lines = [str(r) for r in forwarded.rules]
    accepted = lines.index("meta mark & 0x00ff0000 == 0x00040000 accept")
    assert accepted < lines.index(f'oifname "{TUN}" ip saddr 100.64.0.0/10 counter drop')


@given(st.binary())
def test_any_note_is_read(note: bytes) -> None:
    """Others write them, as versions and as comments."""
    assert TAG not in list(comments_untrusted(note)) or TAG.encode() in note
    assert next(comments_untrusted(b"\x01\x04\0\0\0\x07" + comment(TAG) + note)) == TAG
