"""Which rules are wanted; nothing here touches the kernel."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.interface import FirewallConfig, Guard
from tailnet.platform.linux.nft.encode import TAG, add_rule, batch, replace_table
from tailnet.platform.linux.nft.guard import guard_table
from tailnet.platform.linux.nft.messages import comment, comments_untrusted
from tailnet.platform.linux.nft.ruleset import accepts, own_table, undiverted
from tailnet.platform.linux.nft.syntax import Chain, Family, Prefix, SetMark, Table, Verdict

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


@given(WALLS, st.frozensets(IPS.map(ip_network), max_size=3))
def test_everything_wanted_can_be_encoded(wall: FirewallConfig, local: frozenset[Prefix]) -> None:
    """Into messages that the library packs."""
    for table in (own_table(TUN, wall), guard_table(TUN, Guard(local))):
        for message in batch(list(replace_table(table))):
            message.encode()
            assert message.data


def test_the_guard_ends_with_a_drop_of_everything_else() -> None:
    """In both directions that lead out."""
    table = guard_table(TUN, Guard())
    assert [str(c.rules[-1]) for c in table.chains] == ["counter drop"] * 2


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
