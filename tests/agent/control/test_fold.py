"""Folding map messages: a naive model, and the corners of the rules."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from tailnet.agent.control.fold import SANE_CLOCK, Folder, inherit_derp_map, patch_map
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import DiscoPublic, NodePublic
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPRegion, HomeParams
from tailnet.agent.tailcfg.dns import DNSConfig
from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.mapping import DisplayMessage, MapResponse
from tailnet.agent.tailcfg.node import Node, NodeID, PeerChange, UserID, UserProfile

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SELF = Node(id=NodeID(1), name="me.lab.")
HOUR = timedelta(hours=1)


def peer(number: int, **fields: object) -> Node:
    """A peer."""
    return replace(Node(id=NodeID(number), name=f"p{number}."), **fields)


def folded(*messages: MapResponse) -> Folder:
    """A folder that has seen these."""
    folder = Folder()
    for message in messages:
        folder.fold(message, NOW)
    return folder


def started(*peers: Node) -> Folder:
    """A folder with these peers."""
    return folded(MapResponse(node=SELF, peers=peers))


IDS = st.integers(1, 6).map(NodeID)  # 1 is self
NODES = st.builds(
    peer,
    IDS,
    online=st.sampled_from([None, True, False]),
    endpoints=st.sampled_from([None, (), ("1.2.3.4:5",)]),
    home_derp=st.integers(0, 2),
    allowed_ips=st.sampled_from([None, ("0.0.0.0/0",), ("100.64.0.9/32", "0.0.0.0/0", "::/0")]),
)
CHANGES = st.builds(
    PeerChange,
    node_id=IDS,
    derp_region=st.integers(0, 2),
    cap=st.integers(0, 2),
    endpoints=st.sampled_from([None, (), ("9.9.9.9:9",)]),
    online=st.sampled_from([None, True, False]),
    key=st.sampled_from([None, NodePublic(b"k" * 32), NodePublic(b"l" * 32)]),
    cap_map=st.sampled_from([None, {}, {"y": (1,)}]),
    key_expiry=st.sampled_from([None, NOW + HOUR]),
    last_seen=st.sampled_from([None, NOW - HOUR]),
)


class FoldingEqualsTheModel(RuleBasedStateMachine):
    """The folder against a plain dictionary that follows the rules one by one."""

    @initialize(peers=st.lists(NODES, max_size=4))
    def first(self, peers: list[Node]) -> None:
        """Begin."""
        self.folder = Folder()
        self.model: dict[int, Node] = {}
        self.before: dict[NodeID, Node] = {}
        self.send(MapResponse(node=SELF, peers=tuple(peers)))

    def send(self, message: MapResponse) -> None:
        """Fold on both sides, and check what the change says."""
        if message.peers:
            self.model = {p.id: p for p in message.peers}
        else:
            for gone in message.peers_removed or ():
                self.model.pop(gone, None)
            for new in message.peers_changed or ():
                self.model[new.id] = new
            for number, seen in (message.peer_seen_change or {}).items():
                if number in self.model:
                    at = NOW if seen else None
                    self.model[number] = replace(self.model[number], last_seen=at)
            for number, online in (message.online_change or {}).items():
                if number in self.model:
                    self.model[number] = replace(self.model[number], online=online)
            for patch in message.peers_changed_patch or ():
                if patch.node_id in self.model:
                    self.model[patch.node_id] = self.patched(patch)
        self.model.pop(1, None)
        change = self.folder.fold(message, NOW)
        shown = dict(self.folder.netmap(NOW).peers)
        if not change.full:
            really = {i for i, p in shown.items() if self.before.get(i) != p}
            assert really == change.changed
            assert self.before.keys() - shown.keys() == change.removed
        self.before = shown

    def patched(self, patch: PeerChange) -> Node:
        """One patch, field by field."""
        node = self.model[patch.node_id]
        if patch.derp_region:
            node = replace(node, home_derp=patch.derp_region)
        if patch.cap:
            node = replace(node, cap=patch.cap)
        if patch.endpoints is not None:
            node = replace(node, endpoints=patch.endpoints)
        if patch.online is not None:
            node = replace(node, online=patch.online)
        for name in ("key", "cap_map", "key_expiry", "last_seen"):
            if (value := getattr(patch, name)) is not None:
                node = replace(node, **{name: value})
        return node

    @rule(
        peers=st.lists(NODES, max_size=3),
        removed=st.lists(IDS, max_size=3),
        changed=st.lists(NODES, max_size=3),
        seen=st.dictionaries(IDS, st.booleans(), max_size=3),
        online=st.dictionaries(IDS, st.booleans(), max_size=3),
        patches=st.lists(CHANGES, max_size=3),
        full=st.booleans(),
        again=st.integers(1, 3),
    )
    def any_message(
        self,
        peers: list[Node],
        removed: list[NodeID],
        changed: list[Node],
        seen: dict[NodeID, bool],
        online: dict[NodeID, bool],
        patches: list[PeerChange],
        full: bool,
        again: int,
    ) -> None:
        """All forms at once; ids that nobody knows among them, and the same message again."""
        message = MapResponse(
            peers=tuple(peers) if full else None,
            peers_removed=tuple(removed),
            peers_changed=tuple(changed),
            peer_seen_change=seen,
            online_change=online,
            peers_changed_patch=tuple(patches),
        )
        for _ in range(again):
            self.send(message)

    @invariant()
    def same(self) -> None:
        """Equal, and without self; in order when asked for that."""
        if hasattr(self, "folder"):
            netmap = self.folder.netmap(NOW)
            assert dict(netmap.peers) == self.model
            assert netmap.in_order() == [self.model[number] for number in sorted(self.model)]
            assert netmap.exits == {i: p for i, p in self.model.items() if p.offers_exit}


TestFoldingEqualsTheModel = FoldingEqualsTheModel.TestCase
TestFoldingEqualsTheModel.settings = settings(stateful_step_count=10)


def test_first_message_needs_our_node() -> None:
    """A delta first is an error."""
    with pytest.raises(BadPacket):
        Folder().fold(MapResponse(peers=(peer(2),)), NOW)
    with pytest.raises(BadPacket):
        Folder().netmap(NOW)


def test_empty_peers_change_nothing() -> None:
    """``Peers: []`` is "unchanged", also in company."""
    folder = started(peer(2))
    change = folder.fold(MapResponse(peers=(), domain="x"), NOW)
    assert not change.full
    assert list(folder.netmap(NOW).peers) == [2]


def test_new_stream_says_who_is_gone() -> None:
    """Peers of the stream before that the first message lacks are removed."""
    folder = Folder(before={NodeID(n): peer(n) for n in (2, 3)})
    change = folder.fold(MapResponse(node=SELF, peers=(peer(3), peer(4))), NOW)
    assert change.full
    assert change.removed == {2}


def test_a_map_does_not_change_behind_its_reader() -> None:
    """An older view keeps its peers, users and messages."""
    folder = started(peer(2))
    old = folder.netmap(NOW)
    folder.fold(
        MapResponse(
            peers_removed=(NodeID(2),),
            user_profiles=(UserProfile(id=UserID(5)),),
            display_messages={"a": DisplayMessage(title="t")},
        ),
        NOW,
    )
    assert list(old.peers) == [2]
    assert not old.user_profiles
    assert not old.display_messages


def test_seen_is_not_online() -> None:
    """``PeerSeenChange`` moves LastSeen only."""
    folder = started(peer(2, online=False))
    folder.fold(MapResponse(peer_seen_change={NodeID(2): True}), NOW)
    node = folder.netmap(NOW).peers[NodeID(2)]
    assert (node.online, node.last_seen) == (False, NOW)
    folder.fold(MapResponse(peer_seen_change={NodeID(2): False, NodeID(9): True}), NOW)
    assert folder.netmap(NOW).peers[NodeID(2)].last_seen is None


def test_absurd_ids_are_left_out() -> None:
    """Zero, negative, beyond 64 bits, and our own."""
    folder = started(peer(0), peer(-1), peer(2**63), peer(1), peer(7))
    assert list(folder.netmap(NOW).peers) == [7]
    folder.fold(MapResponse(peers_changed=(peer(0), peer(1))), NOW)
    assert list(folder.netmap(NOW).peers) == [7]


KEY_A, KEY_B = DiscoPublic(b"a" * 32), DiscoPublic(b"b" * 32)


@pytest.mark.parametrize(
    ("online", "seen", "applied"),
    [
        (False, NOW - HOUR, False),
        (False, NOW, False),
        (False, None, False),
        (False, NOW + HOUR, True),
        (True, NOW - HOUR, True),
        (None, NOW - HOUR, True),
    ],
)
def test_stale_disco_keys_are_not_taken(
    online: bool | None, seen: datetime | None, applied: bool
) -> None:
    """A patch for an offline peer that is not newer than what we know is dropped whole."""
    folder = started(peer(2, disco_key=KEY_A, last_seen=NOW))
    patch = PeerChange(
        node_id=NodeID(2), disco_key=KEY_B, online=online, last_seen=seen, derp_region=3
    )
    folder.fold(MapResponse(peers_changed_patch=(patch,)), NOW)
    node = folder.netmap(NOW).peers[NodeID(2)]
    assert (node.disco_key, node.home_derp) == ((KEY_B, 3) if applied else (KEY_A, 0))


def test_full_list_keeps_the_newer_disco_key() -> None:
    """The same rule, for one peer in a full list."""
    folder = started(peer(2, disco_key=KEY_A, last_seen=NOW), peer(3, disco_key=KEY_A))
    folder.fold(
        MapResponse(
            peers=(
                peer(2, disco_key=KEY_B, last_seen=NOW - HOUR, online=False),
                peer(3, disco_key=KEY_B, online=True),
            )
        ),
        NOW,
    )
    peers = folder.netmap(NOW).peers
    assert peers[NodeID(2)].disco_key == KEY_A
    assert peers[NodeID(2)].last_seen == NOW
    assert peers[NodeID(3)].disco_key == KEY_B


def test_patch_of_keys_and_capabilities() -> None:
    """Key, expiry and the whole CapMap are replaced; 0 and absent are not changes."""
    folder = started(peer(2, cap=7, cap_map={"x": None}, derp="127.3.3.40:5"))
    key = NodePublic(b"k" * 32)
    patch = PeerChange(node_id=NodeID(2), key=key, key_expiry=NOW + HOUR, cap_map={"y": (1,)})
    folder.fold(MapResponse(peers_changed_patch=(patch,)), NOW)
    node = folder.netmap(NOW).peers[NodeID(2)]
    assert (node.key, node.cap, node.cap_map, node.home_region) == (key, 7, {"y": (1,)}, 5)
    folder.fold(
        MapResponse(peers_changed_patch=(PeerChange(node_id=NodeID(2), derp_region=6),)), NOW
    )
    assert folder.netmap(NOW).peers[NodeID(2)].home_region == 6


A, B, C = (FilterRule(src_ips=(ip,)) for ip in ("1.1.1.1", "2.2.2.2", "3.3.3.3"))


@pytest.mark.parametrize(
    ("messages", "rules"),
    [
        ([{}], None),
        ([{"packet_filter": ()}], ()),
        ([{"packet_filter": (A,)}, {}], (A,)),
        ([{"packet_filter": (A,)}, {"packet_filter": ()}], ()),
        ([{"packet_filter": (B,), "packet_filters": {"a": (A,), "c": (C,)}}], (A, B, C)),
        ([{"packet_filters": {"a": (A,), "b": (B,)}}, {"packet_filters": {"a": None}}], (B,)),
        ([{"packet_filter": (A,)}, {"packet_filters": {"b": (B,), "*": None}}], (B,)),
        ([{"packet_filter": (A,)}, {"packet_filters": {"*": None}}], ()),
        ([{"packet_filter": (A,)}, {"packet_filters": {"base": (C,)}}], (C,)),
        ([{"packet_filters": {"x": None}}], ()),
    ],
)
def test_filter_chunks(
    messages: list[dict[str, object]], rules: tuple[FilterRule, ...] | None
) -> None:
    """Chunks in the order of their names; the singular field is ``base`` and comes first."""
    folder = started()
    for fields in messages:
        folder.fold(replace(MapResponse(), **fields), NOW)
    assert folder.netmap(NOW).packet_filter == rules


def test_patch_map_clears_first() -> None:
    """``*`` empties, null deletes."""
    assert patch_map({"a": 1, "b": 2}, {"a": None, "c": 3}) == {"b": 2, "c": 3}
    assert patch_map({"a": 1}, {"c": 3, "*": None}) == {"c": 3}


def test_health_gives_way_to_display_messages() -> None:
    """``[]`` clears; once any display message is held, health is not shown."""
    folder = folded(MapResponse(node=SELF, health=("bad",)))
    assert folder.netmap(NOW).health == ("bad",)
    folder.fold(MapResponse(display_messages={"m": DisplayMessage(title="t")}), NOW)
    assert folder.netmap(NOW).health == ()
    folder.fold(MapResponse(display_messages={"*": None}, health=()), NOW)
    assert folder.netmap(NOW).health == ()
    assert not folder.netmap(NOW).display_messages


def test_parts_stay_until_replaced() -> None:
    """DNS, domain and users; a user is never deleted."""
    dns = DNSConfig(proxied=True)
    user = UserProfile(id=UserID(1), login_name="a@b")
    folder = folded(
        MapResponse(node=SELF, dns_config=dns, domain="d", user_profiles=(user,)), MapResponse()
    )
    netmap = folder.netmap(NOW)
    assert (netmap.dns, netmap.domain, netmap.user_profiles[UserID(1)]) == (dns, "d", user)
    folder.fold(MapResponse(dns_config=DNSConfig()), NOW)
    assert folder.netmap(NOW).dns == DNSConfig()


def test_derp_map_is_inherited() -> None:
    """Absent parts come from the map before; null regions do not exist; ``{}`` clears."""
    one = DERPRegion(region_id=1)
    old = DERPMap(
        regions={1: one, 2: None},
        home_params=HomeParams(region_score={1: 0.5}),
        omit_default_regions=True,
    )
    old = inherit_derp_map(DERPMap(), old)
    assert old.regions == {1: one}
    assert inherit_derp_map(old, DERPMap()) == old
    assert inherit_derp_map(old, DERPMap(home_params=HomeParams())) == old
    cleared = inherit_derp_map(old, DERPMap(regions={}, home_params=HomeParams(region_score={})))
    assert (cleared.regions, cleared.omit_default_regions) == ({}, False)
    assert cleared.home_params == HomeParams(region_score={})


def test_capabilities_of_self_join_the_map() -> None:
    """The legacy list, without overwriting values."""
    node = replace(SELF, capabilities=("a", "b"), cap_map={"b": (1,)})
    assert folded(MapResponse(node=node)).netmap(NOW).self_node.cap_map == {"a": None, "b": (1,)}


def test_expired_peer_loses_its_paths() -> None:
    """When its time comes, once; others stay as they are."""
    soon = peer(2, key_expiry=NOW + HOUR, endpoints=("1.2.3.4:5",), home_derp=3)
    folder = started(soon, peer(3, key_expiry=datetime(1, 1, 1, tzinfo=UTC)))
    assert folder.next_expiry(NOW) == 3600
    assert folder.expire(NOW) is None
    change = folder.expire(NOW + HOUR)
    assert change is not None
    assert change.changed == {2}
    node = folder.netmap(NOW + HOUR).peers[NodeID(2)]
    assert (node.expired, node.endpoints, node.home_region) == (True, None, 0)
    assert folder.expire(NOW + HOUR) is None
    assert folder.next_expiry(NOW + HOUR) is None
    renewed = PeerChange(node_id=NodeID(2), key_expiry=NOW + 9 * HOUR)
    folder.fold(MapResponse(peers_changed_patch=(renewed,)), NOW + HOUR)
    assert folder.netmap(NOW + HOUR).peers[NodeID(2)].endpoints == ("1.2.3.4:5",)


def test_own_expiry_is_marked() -> None:
    """And reported as a change without peers; our own paths stay."""
    folder = folded(MapResponse(node=replace(SELF, key_expiry=NOW + HOUR, home_derp=4)))
    assert folder.next_expiry(NOW) == 3600
    change = folder.expire(NOW + HOUR)
    assert change is not None
    assert not change.changed
    node = folder.netmap(NOW + HOUR).self_node
    assert (node.expired, node.home_derp) == (True, 4)


def test_nobody_expires_under_an_absurd_clock() -> None:
    """A server that lives in 2020 does not cut the tailnet."""
    early = SANE_CLOCK - 1000 * HOUR
    folder = started(peer(2, key_expiry=early - HOUR))
    folder.fold(MapResponse(online_change={NodeID(2): True}), early)
    assert not folder.netmap(early).peers[NodeID(2)].expired


def test_time_without_a_zone_does_not_crash() -> None:
    """A sloppy server's times count as UTC."""
    folder = started(peer(2, key_expiry=datetime(2020, 1, 1)))  # noqa: DTZ001 - the point
    assert folder.netmap(NOW).peers[NodeID(2)].expired
