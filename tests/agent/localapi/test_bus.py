"""The fan-out of notifications."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.localapi.bus import QUEUE, Bus
from tailnet.agent.localapi.schema.bus import (
    FELL_BEHIND,
    HEALTH_ACTIONS,
    NO_NETMAP,
    PEER_CHANGES,
    PEER_PATCHES,
    PEER_WIREGUARD_STATE,
    WATCH_ENGINE_UPDATES,
    Engine,
    Notify,
    PeerSession,
)
from tailnet.agent.localapi.view.watching.sessions import Sessions
from tailnet.agent.wireguard.events import PeerState

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_everyone_hears_everything_in_order() -> None:
    """Each watcher has a queue of its own."""
    bus = Bus()
    one, two = bus.watch(0, [Notify(state=4)]), bus.watch(0)
    for state in (5, 6):
        bus.publish(Notify(state=state))
    assert [n.state for n in one.take()] == [4, 5, 6]
    assert [n.state for n in two.take()] == [5, 6]
    assert one.take() == []


def test_who_falls_behind_is_told_and_cut_off() -> None:
    """The queue is bounded; others do not suffer."""
    bus = Bus()
    slow, quick = bus.watch(0), bus.watch(0)
    for state in range(QUEUE + 5):
        bus.publish(Notify(state=state))
        quick.take()
    got = slow.take()
    assert len(got) == QUEUE + 1
    assert got[-1].err_message == FELL_BEHIND
    assert slow.closed
    assert not quick.closed
    assert len(bus) == 1


def test_the_mask_decides_what_is_sent() -> None:
    """Engine numbers and peer changes only to those who want them; nothing empty to the others."""
    bus = Bus()
    plain = bus.watch(0)
    curious = bus.watch(WATCH_ENGINE_UPDATES | PEER_CHANGES)
    bus.publish(Notify(engine=Engine(num_live=1)))
    bus.publish(Notify(peers_removed=(5,)))
    bus.publish(Notify(state=6, engine=Engine()))
    assert [(n.state, n.engine) for n in plain.take()] == [(6, None)]
    assert len(curious.take()) == 3


def test_actions_of_health_are_part_of_the_text_for_those_who_do_not_know_them() -> None:
    """Nobody loses the page that helps."""
    bus = Bus()
    plain, knowing = bus.watch(0), bus.watch(HEALTH_ACTIONS)
    action = {"URL": "https://a.example", "Label": "Help"}
    bus.publish(Notify(health={"Warnings": {"a": {"Text": "No", "PrimaryAction": action}}}))
    assert [n.health for n in plain.take()] == [
        {"Warnings": {"a": {"Text": "No Help: https://a.example"}}}
    ]
    assert [n.health for n in knowing.take()] == [
        {"Warnings": {"a": {"Text": "No", "PrimaryAction": action}}}
    ]


def test_sessions_are_told_to_those_who_ask() -> None:
    """And nothing in place of them to the others."""
    bus = Bus()
    plain, curious = bus.watch(0), bus.watch(PEER_WIREGUARD_STATE)
    bus.publish(Notify(peer_state={"n2": PeerSession(state="handshake", at=NOW)}))
    assert not plain.take()
    assert len(curious.take()) == 1


def test_of_sessions_only_what_changes_is_told() -> None:
    """A session is there since its handshake; one that is gone is told once."""
    sessions = Sessions()
    calm = {"n3": (PeerState.NONE, NOW)}
    before = NOW - timedelta(seconds=9)
    steps: list[tuple[dict[str, tuple[PeerState, datetime]], dict[str, PeerSession]]] = [
        (calm, {}),
        (
            {**calm, "n2": (PeerState.HANDSHAKE, before)},
            {"n2": PeerSession(state="handshake", at=NOW)},
        ),
        (
            {**calm, "n2": (PeerState.ESTABLISHED, before)},
            {"n2": PeerSession(state="established", at=before)},
        ),
        ({**calm, "n2": (PeerState.ESTABLISHED, NOW)}, {}),
        ({"n2": (PeerState.EXPIRED, NOW)}, {"n2": PeerSession(state="expired", at=NOW)}),
        ({}, {"n2": PeerSession(state="none", at=NOW)}),
        ({}, {}),
    ]
    told: dict[str, PeerSession] = {}
    for found, changed in steps:
        assert sessions.update(found, NOW) == changed
        told |= changed
        assert sessions.known() == {peer: one for peer, one in told.items() if one.state != "none"}


@given(st.lists(st.sampled_from(["put", "take", "close", "listen"])))
def test_wakes_come_when_there_is_something(steps: list[str]) -> None:
    """After any steps: if something waits, the listener was woken since it last took."""
    bus, wakes = Bus(), list[int]()
    watcher = bus.watch(0)
    watcher.on_ready(lambda: wakes.append(1))
    for step in steps:
        match step:
            case "put":
                bus.publish(Notify(state=1))
            case "take":
                wakes.clear()
                watcher.take()
            case "close":
                bus.close()
            case _:
                watcher.on_ready(lambda: wakes.append(1))
    if watcher.take():
        assert wakes
    assert len(bus) == (not watcher.closed)


def test_whole_maps_go_to_those_who_do_not_take_changes() -> None:
    """Of the first message everybody gets what was asked for."""
    bus = Bus()
    whole, none, changes = bus.watch(0), bus.watch(NO_NETMAP), bus.watch(PEER_CHANGES)
    assert bus.wants_maps
    assert bus.wants(PEER_CHANGES)
    bus.publish(Notify(net_map={"Domain": "x"}))
    bus.publish(Notify(self_change={"ID": 1}, peers_removed=(2,)))
    assert [one.net_map for one in whole.take()] == [{"Domain": "x"}]
    assert none.take() == []
    assert [one.peers_removed for one in changes.take()] == [(2,)]
    first = bus.watch(PEER_CHANGES, [Notify(session_id="0" * 16, net_map={"Domain": "x"})])
    assert [one.net_map for one in first.take()] == [{"Domain": "x"}]


def test_who_asks_for_less_takes_no_whole_map() -> None:
    """Each bit that says so is enough, alone and with others."""
    for less in (NO_NETMAP, PEER_CHANGES, PEER_PATCHES):
        bus = Bus()
        bus.watch(less | WATCH_ENGINE_UPDATES)
        assert not bus.wants_maps
        bus.watch(WATCH_ENGINE_UPDATES)
        assert bus.wants_maps
