"""Whole-state setters that touch only what changed."""

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.datapath.interface import PeerEntry, Session
from tailnet.agent.datapath.reference.tables import Tables
from tailnet.agent.keys import PeerId

NETS = [ip_network(f"10.0.{i}.0/24") for i in range(4)] + [ip_network("10.0.0.1/32")]
entries = st.dictionaries(
    st.integers(1, 4).map(PeerId),
    st.lists(st.sampled_from(NETS), max_size=3).map(lambda nets: PeerEntry(tuple(nets))),
    max_size=4,
)


@given(st.lists(entries, max_size=6))
def test_routes_depend_only_on_the_latest_state(states: list[dict[PeerId, PeerEntry]]) -> None:
    """Two peers may claim one prefix: the last of the mapping has it, as with a fresh table."""
    tables = Tables()
    for state in states:
        tables.set_peers(state)
        fresh = Tables()
        fresh.set_peers(state)
        assert tables.peers.keys() == state.keys()
        for net in NETS:
            packed = net.network_address.packed
            found, expected = tables.routes.lookup(packed), fresh.routes.lookup(packed)
            assert (found and found.id) == (expected and expected.id)


def test_an_unchanged_peer_keeps_its_object() -> None:
    """Equal is unchanged, identical or not."""
    tables = Tables()
    tables.set_peers({PeerId(1): PeerEntry((NETS[0],))})
    peer = tables.peers[PeerId(1)]
    assert tables.set_peers({PeerId(1): PeerEntry((NETS[0],))}) == []
    assert tables.peers[PeerId(1)] is peer
    assert tables.set_peers({}) == [peer]


def test_evicted_sessions_leave_the_index() -> None:
    """Three slots are three entries, never more."""
    tables = Tables()
    tables.set_peers({PeerId(1): PeerEntry(())})
    peer = tables.peers[PeerId(1)]
    for index in range(6):
        tables.add_session(peer, Session(index, 9, bytes(32), bytes(32), 0.0, index % 2 == 0))
        assert {keys.index for keys in peer.keys} == {k.index for k in tables.sessions.values()}
    tables.set_peers({})
    assert tables.sessions == {}
