"""Two engines over a network that loses, doubles, reorders and damages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.handshakes import MAKERS, maker
from tests.support.netem import Link
from tests.support.pair import Pair

BAD = st.builds(
    Link,
    latency=st.floats(0.001, 0.5),
    spread=st.floats(0, 1.0),
    loss=st.floats(0, 0.6),
    duplication=st.floats(0, 0.6),
    corruption=st.floats(0, 0.3),
)


@given(st.integers(1, 1 << 30), BAD, st.sampled_from(["a", "b", "ab"]))
def test_they_converge(seed: int, link: Link, first: str) -> None:
    """However it began, once the network is good both ends hear each other."""
    pair = Pair(seed, link)
    for _ in range(20):
        for node in pair.nodes:
            if node.name in first:
                node.send(b"data")
        pair.run(3)
    pair.link(loss=0.0, duplication=0.0, corruption=0.0, spread=0.0, latency=0.02)
    assert pair.exchange()


@given(st.integers(1, 1 << 30), BAD)
@settings(max_examples=25)
@pytest.mark.timeout(60)
def test_nothing_arrives_twice_or_changed(seed: int, link: Link) -> None:
    """Across renewals: replay windows take the copies, tags the damage."""
    pair = Pair(seed, link)
    for n in range(300):
        pair.a.send(b"a%d" % n)
        pair.b.send(b"b%d" % n)
        pair.run(1)
    for node, mark in ((pair.a, b"b"), (pair.b, b"a")):
        got = node.packets.received
        assert len(got) == len(set(got))
        assert set(got) <= {mark + b"%d" % n for n in range(300)}
    pair.link(loss=0.0, duplication=0.0, corruption=0.0)
    assert pair.exchange()


@given(st.integers(1, 1 << 30), st.lists(st.floats(0, 200), min_size=1, max_size=4))
def test_restarts_are_survived(seed: int, pauses: list[float]) -> None:
    """A peer that lost its sessions is reached again, from either side."""
    pair = Pair(seed)
    for i, pause in enumerate(pauses):
        pair.a.send(b"x")
        pair.run(pause)
        node = pair.nodes[i % 2]
        node.restart()
        node.sessions.clear()
        assert pair.exchange()


def test_both_paths_at_once() -> None:
    """Every message twice, as by UDP and relay: one session, no data twice."""
    pair = Pair(3, Link(latency=0.01, spread=0.2, duplication=1.0))
    for n in range(200):
        pair.a.send(b"%d" % n)
        pair.run(0.1)
    pair.run(1)
    assert sorted(map(int, pair.b.packets.received)) == list(range(200))
    assert pair.b.packets.dropped["replay"] >= 200
    assert [data[0] for _, data in pair.a.sent] == [1]
    assert pair.b.bad["replayed initiation"] == 1


def test_same_seed_same_story() -> None:
    """Nothing in it depends on anything but the seed."""
    stories = []
    for _ in range(2):
        pair = Pair(9, Link(spread=0.3, loss=0.3, duplication=0.2, corruption=0.1))
        for _ in range(50):
            pair.a.send(b"x")
            pair.run(5)
        stories.append((pair.a.sent, pair.b.sent, pair.a.events))
    assert stories[0] == stories[1]


@pytest.mark.parametrize("there", MAKERS)
@pytest.mark.parametrize("here", MAKERS)
def test_it_does_not_matter_who_computes_the_handshakes(here: str, there: str) -> None:
    """Of damaged messages none ends a handshake, and the right ones make sessions."""
    damaged = Link(latency=0.02, corruption=0.5)
    pair = Pair(5, damaged, (maker(here), maker(there)))
    for _ in range(20):
        pair.a.send(b"data")
        pair.b.send(b"data")
        pair.run(3)
    assert pair.a.bad or pair.b.bad
    pair.link(corruption=0.0)
    assert pair.exchange()
