"""Going on with a map session, and not."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.control import config, hostinfo, member, serving, settings

from tailnet.agent.control.events import Connected, Disconnected, NetmapChanged
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.control.resume import Resume
from tailnet.agent.control.session import MapSession
from tailnet.agent.dates import Calendar
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.codec import encode
from tailnet.agent.tailcfg.mapping import MapResponse
from tailnet.agent.tailcfg.node import Node, NodeID, PeerChange

WALL = datetime(2026, 3, 1, tzinfo=UTC)


def framed(*messages: MapResponse) -> bytes:
    """Uncompressed."""
    bodies = [encode(message) for message in messages]
    return b"".join(len(body).to_bytes(4, "little") + body for body in bodies)


def node(number: int, name: str = "") -> Node:
    """Some node."""
    return Node(id=NodeID(number), name=name or f"n{number}.")


WHOLE = MapResponse(
    map_session_handle="h", seq=1, node=node(1), peers=(node(2), node(3)), domain="lab"
)


def begun(resume: Resume | None, *messages: MapResponse) -> tuple[MapSession, list[NetworkMap]]:
    """A session that has read these."""
    session = MapSession(0.0, Calendar(lambda: 0.0, lambda: WALL), compressed=False, resume=resume)
    session.receive_untrusted(framed(*messages), 0.0)
    maps = []
    while (event := session.poll_event()) is not None:
        if isinstance(event, NetmapChanged):
            maps.append(event.netmap)
    return session, maps


def test_a_session_goes_on_where_it_was() -> None:
    """The first message has the handle and nothing else; what follows are deltas."""
    first, _ = begun(None, WHOLE, MapResponse(seq=2, peers_removed=(NodeID(3),)))
    assert first.resume is not None
    assert (first.resume.handle, first.resume.seq) == ("h", 2)
    second, maps = begun(
        first.resume,
        MapResponse(map_session_handle="h"),
        MapResponse(seq=3, online_change={NodeID(2): True}),
    )
    assert second.established
    assert second.resume is not None
    assert second.resume.seq == 3
    assert list(maps[0].peers) == [2]
    assert maps[-1].peers[NodeID(2)].online is True
    assert maps[-1].domain == "lab"


@pytest.mark.parametrize("handle", ["", "other"])
def test_a_server_that_starts_anew_is_believed(handle: str) -> None:
    """A missing or another handle: nothing of the old session is left."""
    first, _ = begun(None, WHOLE)
    anew = MapResponse(map_session_handle=handle, node=node(1), peers=(node(9),))
    second, maps = begun(first.resume, anew)
    assert list(maps[0].peers) == [9]
    assert (second.resume is None) == (handle == "")


def test_a_server_that_starts_anew_must_say_who_we_are() -> None:
    """Another handle and no node is an error as ever."""
    first, _ = begun(None, WHOLE)
    with pytest.raises(BadPacket):
        begun(first.resume, MapResponse(map_session_handle="other"))


def test_without_a_handle_there_is_nothing_to_go_on_with() -> None:
    """As at Headscale."""
    session, _ = begun(None, MapResponse(node=node(1)))
    assert session.resume is None


CHANGES = st.lists(
    st.one_of(
        st.builds(lambda i: MapResponse(peers_changed=(node(i, "new."),)), st.integers(2, 6)),
        st.builds(lambda i: MapResponse(peers_removed=(NodeID(i),)), st.integers(2, 6)),
        st.builds(
            lambda i, o: MapResponse(online_change={NodeID(i): o}), st.integers(2, 6), st.booleans()
        ),
        st.builds(
            lambda i, r: MapResponse(
                peers_changed_patch=(PeerChange(node_id=NodeID(i), derp_region=r),)
            ),
            st.integers(2, 6),
            st.integers(1, 9),
        ),
    ),
    max_size=12,
)


@given(CHANGES, st.sets(st.integers(0, 12)))
def test_however_often_it_breaks_the_map_is_the_same(
    changes: list[MapResponse], breaks: set[int]
) -> None:
    """One unbroken stream and any resumed ones end with the same peers."""
    _, maps = begun(None, WHOLE, *changes)
    cuts = sorted({0, len(changes), *(b for b in breaks if b <= len(changes))})
    session, last = begun(None, WHOLE)
    for start, end in pairwise(cuts):
        session, last = begun(
            session.resume, MapResponse(map_session_handle="h"), *changes[start:end]
        )
    assert dict(last[-1].peers) == dict(maps[-1].peers)


async def test_a_cut_stream_is_resumed_by_the_server() -> None:
    """Peers that came and went meanwhile arrive as deltas; the map is not sent again."""
    of = settings()
    of.resume = True
    async with serving(of) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        async with member(config(server.origin), "two"):
            await one.sees(lambda m: len(m.peers) == 1)
            server.drop_streams()
            await one.until(Disconnected)
            one.client.update(hostinfo("renamed"), ())
            async with member(config(server.origin), "three"):
                await one.sees(lambda m: len(m.peers) == 2)
        (me, *_) = server.nodes()
        assert me["resumed"] == 1
        assert me["streams"] == 2


async def test_a_server_that_forgot_the_session_sends_the_whole_map() -> None:
    """A handle of before its restart means nothing to it."""
    of = settings()
    of.resume = True
    async with serving(of) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        server._polls._sessions.clear()
        one.events.clear()
        server.drop_streams()
        changed = await one.until(NetmapChanged)
        assert changed.full
        assert server.nodes()[0]["resumed"] == 0
