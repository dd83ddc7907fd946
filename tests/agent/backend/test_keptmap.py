"""The kept network map's file: what goes in comes out, and nothing else does."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.backend.keptmap import (
    decode_lines_untrusted,
    encode_lines,
    encode_struck,
    in_words,
    map_path,
    may_keep,
)
from tailnet.agent.control.fold import Folder
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import DiscoPublic, NodePublic
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPRegion
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange
from tailnet.agent.tailcfg.mapping import DisplayMessage, MapResponse
from tailnet.agent.tailcfg.node import Hostinfo, Node, NodeID, StableNodeID, UserID, UserProfile

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SERVER = "https://control.example"


def node(number: int, **more: object) -> Node:
    """A node as control describes it."""
    fields: dict[str, object] = {
        "id": NodeID(number),
        "stable_id": StableNodeID(f"n{number}"),
        "name": f"h{number}.example.ts.net.",
        "user": UserID(1),
        "key": NodePublic(number.to_bytes(32, "big")),
        "disco_key": DiscoPublic(number.to_bytes(32, "little")),
        "addresses": (f"100.64.0.{number}/32",),
        "endpoints": (f"192.0.2.{number}:41641",),
        "home_derp": 900,
        "hostinfo": Hostinfo(os="linux"),
        "cap_map": {"some-cap": None, "other": ("x", 1)},
        "machine_authorized": True,
        **more,
    }
    return Node(**fields)  # type: ignore[arg-type]


def netmap(*peers: Node, me: Node | None = None, **more: object) -> NetworkMap:
    """The map that a stream of one message makes."""
    folder = Folder()
    message = MapResponse(
        node=me or node(1),
        peers=peers or None,
        derp_map=DERPMap(regions={900: DERPRegion(region_id=900, region_code="lab")}),
        domain="example.com",
        user_profiles=(UserProfile(id=UserID(1), login_name="ann@example.com"),),
        packet_filter=(
            FilterRule(
                src_ips=("100.64.0.2",),
                dst_ports=(NetPortRange(ip="*", ports=PortRange(22, 22)),),
            ),
        ),
        **more,  # type: ignore[arg-type]
    )
    folder.fold(message, NOW)
    return folder.netmap(NOW)


def written(what: NetworkMap, ahead: float = 0.0) -> bytes:
    """The file."""
    return b"".join(encode_lines(what, SERVER, NOW, ahead))


def read(data: bytes, wall: datetime = NOW) -> NetworkMap:
    """The map that a start at ``wall`` begins with."""
    kept = decode_lines_untrusted(data)
    today = kept.date(wall)
    return kept.fold(today).netmap(today)


def test_a_map_comes_back_as_it_was() -> None:
    """Every part that is acted on."""
    before = netmap(node(2), node(3, online=True, tags=("tag:x",)))
    after = read(written(before))
    for name in ("self_node", "derp_map", "dns", "packet_filter", "domain"):
        assert getattr(after, name) == getattr(before, name)
    assert dict(after.peers) == dict(before.peers)
    assert dict(after.user_profiles) == dict(before.user_profiles)


@given(numbers=st.sets(st.integers(2, 200), max_size=20))
def test_any_set_of_peers_comes_back(numbers: set[int]) -> None:
    """None more, none less."""
    before = netmap(*(node(number) for number in numbers))
    assert set(read(written(before)).peers) == numbers


@given(numbers=st.sets(st.integers(2, 200), max_size=20), data=st.data())
def test_who_was_struck_out_does_not_come_back(numbers: set[int], data: st.DataObject) -> None:
    """In one line or in several; numbers that nobody has do no harm."""
    gone = data.draw(st.lists(st.sets(st.integers(2, 210), max_size=9), max_size=3))
    before = netmap(*(node(number) for number in numbers))
    lines = [encode_struck([NodeID(number) for number in some]) for some in gone]
    after = read(written(before) + b"".join(lines))
    assert set(after.peers) == numbers - set().union(*gone)


def test_a_file_with_half_a_struck_line_is_refused() -> None:
    """Who left might come back."""
    data = written(netmap(node(2), node(3))) + encode_struck([NodeID(3)])
    with pytest.raises(BadPacket, match="not complete"):
        decode_lines_untrusted(data[:-3])


def test_a_filter_that_never_came_is_not_an_empty_one_and_neither_is_open() -> None:
    """``None`` and ``()`` survive as what they are."""
    folder = Folder()
    folder.fold(MapResponse(node=node(1)), NOW)
    assert read(written(folder.netmap(NOW))).packet_filter is None
    folder.fold(MapResponse(packet_filter=()), NOW)
    assert read(written(folder.netmap(NOW))).packet_filter == ()


def test_what_the_server_said_of_our_health_is_not_kept() -> None:
    """It would be shown for as long as the server is away."""
    before = netmap(health=("bad",), display_messages={"x": DisplayMessage(text="worse")})
    after = read(written(before))
    assert not after.health
    assert not after.display_messages


def test_who_expired_meanwhile_is_marked() -> None:
    """Key lifetimes hold without the server, by the server's clock."""
    before = netmap(node(2, key_expiry=NOW + timedelta(hours=1)), node(3))
    after = read(written(before), NOW + timedelta(hours=2))
    assert after.peers[NodeID(2)].expired
    assert not after.peers[NodeID(2)].endpoints
    assert not after.peers[NodeID(3)].expired


@pytest.mark.parametrize(
    ("ahead", "wall", "expired"),
    [
        (0.0, NOW + 2 * HOUR, True),
        (-86_400.0, NOW + 25 * HOUR, False),
        (-86_400.0, NOW + 26 * HOUR, True),
        (86_400.0, NOW - 24 * HOUR, False),
        (86_400.0, NOW + 2 * HOUR, True),
        (0.0, NOW - 20_000 * 24 * HOUR, False),
        (-1e300, NOW + 2 * HOUR, False),
    ],
    ids=[
        "time passed",
        "our clock is a day ahead",
        "and time passed",
        "it is a day behind",
        "it was, and is right now",
        "it says 1972",
        "the file says nonsense",
    ],
)
def test_nobody_expires_before_his_time_although_the_server_is_away(
    ahead: float, wall: datetime, expired: bool
) -> None:
    """Whatever was wrong with this machine's clock, then or now."""
    before = netmap(node(2, key_expiry=NOW + timedelta(hours=1, minutes=30)))
    assert read(written(before, ahead), wall).peers[NodeID(2)].expired is expired


def test_whose_map_it_is_can_be_told() -> None:
    """By key and by server."""
    kept = decode_lines_untrusted(written(netmap()))
    assert kept.node_key == node(1).key
    assert kept.server == SERVER


@given(cut=st.integers(0, 5000))
def test_a_part_of_a_file_is_refused(cut: int) -> None:
    """Wherever it was cut."""
    data = written(netmap(node(2), node(3), node(4)))
    with pytest.raises(BadPacket):
        decode_lines_untrusted(data[: cut % len(data)])


@given(at=st.integers(0, 5000), byte=st.integers(0, 255))
def test_a_changed_byte_makes_another_map_or_none(at: int, byte: int) -> None:
    """Never anything but BadPacket."""
    data = bytearray(written(netmap(node(2), node(3))))
    data[at % len(data)] = byte
    try:
        kept = decode_lines_untrusted(bytes(data))
    except BadPacket:
        return
    kept.fold(NOW).netmap(NOW)


def test_another_version_is_refused() -> None:
    """With both numbers."""
    data = written(netmap()).replace(b'"Version":1', b'"Version":7')
    with pytest.raises(BadPacket, match="version 7; this one reads 1"):
        decode_lines_untrusted(data)


def test_the_server_may_forbid_keeping() -> None:
    """By a node capability."""
    assert may_keep(netmap())
    assert not may_keep(netmap(me=node(1, cap_map={"disable-cache-network-maps": None})))


def test_the_file_is_next_to_the_state() -> None:
    """With its name."""
    assert map_path(Path("/x/tailnetd.state"), "3f2a") == Path("/x/tailnetd.3f2a.netmap")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (45, "45 s"), (720, "12 min"), (3 * 3600 + 5, "3 h"), (200_000, "2 days")],
)
def test_ages_are_said_as_people_do(seconds: float, words: str) -> None:
    """One unit."""
    assert in_words(seconds) == words
