"""Control's JSON: what Go writes, what sloppy servers write, and noise."""

import contextlib
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import DiscoPublic, NodePublic
from tailnet.agent.tailcfg import mapping
from tailnet.agent.tailcfg.codec import (
    ZERO_TIME,
    decode_untrusted,
    encode,
    instant,
    ip_or_none,
    prefixes,
    split_list_untrusted,
    split_object_untrusted,
)
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.filter import NetPortRange, PortRange
from tailnet.agent.tailcfg.mapping import AT_ONCE, MapResponse, decode_map_untrusted
from tailnet.agent.tailcfg.node import Hostinfo, NetInfo, Node, NodeID, PeerChange
from tailnet.agent.tailcfg.register import RegisterResponse, ServerKeys

KEY = "nodekey:" + "ab" * 32


def node(json: str) -> Node:
    """One node."""
    return decode_untrusted(json.encode(), Node)


def test_go_names() -> None:
    """Acronyms as Go writes them."""
    info = NetInfo(
        preferred_derp=1, working_ipv6=True, os_has_ipv6=False, derp_latency={"1-v4": 0.5}
    )
    hostinfo = Hostinfo(ipn_version="1", os="linux", routable_ips=("10.0.0.0/8",), net_info=info)
    assert encode(hostinfo) == (
        b'{"IPNVersion":"1","OS":"linux","RoutableIPs":["10.0.0.0/8"],"NetInfo":'
        b'{"WorkingIPv6":true,"OSHasIPv6":false,"PreferredDERP":1,"DERPLatency":{"1-v4":0.5}}}'
    )
    peer = Node(id=NodeID(1), is_wire_guard_only=True, allowed_ips=(), cap_map={"a": None})
    assert encode(peer) == b'{"ID":1,"AllowedIPs":[],"CapMap":{"a":null},"IsWireGuardOnly":true}'
    keys = b'{"legacyPublicKey":"","publicKey":"mkey:' + b"01" * 32 + b'"}'
    assert decode_untrusted(keys, ServerKeys).public_key.raw == b"\x01" * 32


def test_both_ends_of_a_port_range_are_always_said() -> None:
    """Go's type leaves nothing out, and clients in other languages ask for both."""
    ports = NetPortRange(ip="*", ports=PortRange(first=0, last=65535))
    assert encode(ports) == b'{"IP":"*","Ports":{"First":0,"Last":65535}}'


def test_null_is_absent_everywhere() -> None:
    """Go writes null for nil slices, maps, pointers; keys and scalars too, from others."""
    parsed = node(
        '{"ID":1,"Key":null,"DiscoKey":null,"Name":null,"Cap":null,"Addresses":null,"Tags":null,'
        '"Endpoints":["1.2.3.4:5",null],"CapMap":{"a":null},"Online":null,"Hostinfo":null}'
    )
    assert parsed == Node(id=NodeID(1), endpoints=("1.2.3.4:5",), cap_map={"a": None})


def test_nulls_that_mean_something_survive_the_slow_road() -> None:
    """Deleted chunks, deleted messages, and routes without resolvers."""
    raw = (
        b'{"Domain":null,"PacketFilters":{"*":null},"DisplayMessages":{"x":null},'
        b'"DNSConfig":{"Routes":{"a.":null}}}'
    )
    message = decode_untrusted(raw, MapResponse)
    assert message.packet_filters == {"*": None}
    assert message.display_messages == {"x": None}
    assert message.dns_config is not None
    assert message.dns_config.routes == {"a.": None}


def test_unknown_fields_and_unknown_enums_are_ignored() -> None:
    """In every struct; big integers keep their digits."""
    parsed = node(
        '{"ID":9007199254740993,"Whatever":{"x":[1]},"Hostinfo":{"Env":"moon","TPM":{"a":1}}}'
    )
    assert parsed.id == 9007199254740993


def test_integer_keys_are_strings_on_the_wire() -> None:
    """Regions, online changes."""
    derp = decode_untrusted(b'{"Regions":{"900":{"RegionID":900},"1":null}}', DERPMap)
    assert derp.region(900) is not None
    assert derp.region(1) is None
    assert derp.region(2) is None
    assert decode_untrusted(encode(derp), DERPMap) == derp


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T02:00:00.123456789+02:00", datetime(2026, 1, 1, 0, 0, 0, 123457, UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("2026-01-01T00:00:00", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_times(text: str, value: datetime | None) -> None:
    """Nanoseconds, zones, and Go's zero time."""
    assert instant(node(f'{{"ID":1,"KeyExpiry":"{text}"}}').key_expiry) == value
    assert instant(ZERO_TIME) is None


@pytest.mark.parametrize(
    ("derp", "home", "region"),
    [
        ("127.3.3.40:7", 0, 7),
        ("127.3.3.40:7", 3, 3),
        ("", 0, 0),
        ("1.2.3.4:7", 0, 0),
        ("127.3.3.40:x", 0, 0),
        ("127.3.3.40:" + "9" * 5000, 0, 0),
    ],
)
def test_home_region(derp: str, home: int, region: int) -> None:
    """The legacy address counts when the number is missing."""
    assert Node(id=NodeID(1), derp=derp, home_derp=home).home_region == region


def test_allowed_ips() -> None:
    """Null is the own addresses, ``[]`` is nothing; unsigned peers get their addresses only."""
    own = ("100.64.0.1/32",)
    network = IPv4Network("100.64.0.1/32")
    peer = Node(id=NodeID(1), addresses=own)
    assert peer.allowed_prefixes() == (network,)
    assert peer.ips() == (IPv4Address("100.64.0.1"),)
    assert Node(id=NodeID(1), addresses=own, allowed_ips=()).allowed_prefixes() == ()
    jailed = Node(
        id=NodeID(1), addresses=own, allowed_ips=("0.0.0.0/0",), unsigned_peer_api_only=True
    )
    assert jailed.allowed_prefixes() == (network,)


def test_malformed_addresses_of_a_peer_are_left_out() -> None:
    """The rest of the peer stays usable."""
    peer = Node(
        id=NodeID(1),
        addresses=("x", "100.64.0.1/32", "10.0.0.1/8"),
        endpoints=("[fe80::1%eth0]:5", "1.2.3.4:5", ""),
    )
    assert peer.address_prefixes() == (IPv4Network("100.64.0.1/32"),)
    assert peer.endpoint_addrs() == (AddrPort.parse("1.2.3.4:5"),)
    assert prefixes(None) == ()
    assert ip_or_none("nonsense") is None
    assert ip_or_none("") is None
    assert ip_or_none("1.2.3.4") == IPv4Address("1.2.3.4")


@given(
    st.builds(
        PeerChange,
        node_id=st.integers(1, 2**63 - 1).map(NodeID),
        endpoints=st.none() | st.just(("1.2.3.4:5",)) | st.just(()),
        key=st.none() | st.binary(min_size=32, max_size=32).map(NodePublic),
        disco_key=st.none() | st.binary(min_size=32, max_size=32).map(DiscoPublic),
        online=st.none() | st.booleans(),
        key_expiry=st.none() | st.datetimes(timezones=st.just(UTC)),
    )
)
def test_decode_inverts_encode(change: PeerChange) -> None:
    """With keys and times inside."""
    assert decode_untrusted(encode(change), PeerChange) == change


@pytest.mark.parametrize("at_once", [0, AT_ONCE])
def test_bad_entries_are_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Peers, patches, users, rules; anything else malformed is fatal; in slices or not."""
    monkeypatch.setattr(mapping, "AT_ONCE", at_once)
    raw = (
        '{"Peers":[{"ID":1,"Key":"KEY"},{"Key":"KEY"},null,{"ID":3,"Key":"bad"}],'
        '"PeersChangedPatch":[{"NodeID":1},{}],"UserProfiles":[{"ID":"x"}],'
        '"PacketFilter":[{"SrcIPs":7},{"SrcIPs":["*"]}]}'
    ).replace("KEY", KEY)
    message, dropped = decode_map_untrusted(raw.encode())
    assert [p.id for p in message.peers or ()] == [1]
    assert len(message.peers_changed_patch or ()) == 1
    assert len(message.packet_filter or ()) == 1
    assert dropped == 5  # null is no entry
    with pytest.raises(BadPacket):
        decode_map_untrusted(b'{"Node":{"ID":"x"}}')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["ID", "Peers", "Node", "Key", "DERPMap", "Regions", "CapMap", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60), JSON)
def test_noise_is_refused(data: bytes, tree: object) -> None:
    """Only ``BadPacket`` leaves the decoders, for bytes and for JSON of the wrong shape."""
    for raw in (data, encode(tree)):
        for kind in (MapResponse, Node, RegisterResponse, DERPMap):
            with contextlib.suppress(BadPacket):
                decode_untrusted(raw, kind)
        with contextlib.suppress(BadPacket):
            decode_map_untrusted(raw)
        with contextlib.suppress(BadPacket), mock.patch.object(mapping, "AT_ONCE", 0):
            decode_map_untrusted(raw)
        with contextlib.suppress(BadPacket):
            split_object_untrusted(raw)
        with contextlib.suppress(BadPacket):
            split_list_untrusted(raw)
