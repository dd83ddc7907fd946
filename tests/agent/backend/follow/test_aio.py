"""Plans in slices and plans at once: the same in the end, and nothing half-way in between."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import ModuleType
from unittest import mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.nodes import FakeSystem

from tailnet.agent import slices
from tailnet.agent.addr import IPNetwork
from tailnet.agent.backend import plan as plan_module
from tailnet.agent.backend.follow import aio as follow_module
from tailnet.agent.backend.follow.aio import Follower, Turn
from tailnet.agent.backend.plan import Plan
from tailnet.agent.backend.planview import describe
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.tunnel.aio import Tunnel
from tailnet.agent.backend.tunnel.interface import EMPTY, TunnelSettings
from tailnet.agent.backend.tunnel.tables import aio as tables_module
from tailnet.agent.control import fold as fold_module
from tailnet.agent.control.events import NetmapChanged
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.control.session import MapSession
from tailnet.agent.datapath.reference.aio import ReferenceDatapath
from tailnet.agent.dates import Calendar
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import DiscoPrivate, DiscoPublic, NodePrivate, NodePublic
from tailnet.agent.slices import Steps
from tailnet.agent.tailcfg import mapping
from tailnet.agent.tailcfg.codec import encode
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange
from tailnet.agent.tailcfg.mapping import MapResponse
from tailnet.agent.tailcfg.node import Node, NodeID

WALL = datetime(2026, 1, 1, tzinfo=UTC)
ME = Node(id=NodeID(1), key=NodePublic(bytes(31) + b"\x01"), addresses=("100.64.9.1/32",))
SLICED: tuple[ModuleType, ...] = (
    slices,
    plan_module,
    follow_module,
    tables_module,
    fold_module,
    mapping,
)

Granted = set[tuple[NodePublic, IPNetwork]]


def peer(number: int, form: int) -> Node:
    """One of several forms: other key, other addresses, a subnet, in jail."""
    return Node(
        id=NodeID(number),
        key=NodePublic(bytes([number, form & 1]) + bytes(30)),
        disco_key=DiscoPublic(bytes([number, form]) + bytes(30)),
        addresses=(f"100.64.{form & 3}.{number}/32",),
        allowed_ips=(f"100.64.{form & 3}.{number}/32", f"10.{form}.{number}.0/24"),
        home_derp=1,
        is_jailed=form == 7,
    )


PEERS = st.builds(peer, st.integers(2, 9), st.integers(0, 7))
CROWDS = st.lists(PEERS, max_size=8, unique_by=lambda one: one.id).map(tuple)
RULES = st.integers(0, 3).map(
    lambda n: (
        FilterRule(
            src_ips=(f"100.64.{n}.0/24",),
            dst_ports=(NetPortRange(ip="*", ports=PortRange(first=0, last=65535)),),
        ),
    )
)
MESSAGES = st.one_of(
    st.builds(MapResponse, peers=CROWDS, packet_filter=st.none() | RULES),
    st.builds(
        MapResponse,
        peers_changed=CROWDS,
        peers_removed=st.lists(st.integers(2, 9).map(NodeID), max_size=3).map(tuple),
        packet_filter=st.none() | RULES,
    ),
)
WISHES = st.sampled_from(["down", "up", "shields", "routes"])
HISTORY = st.lists(st.tuples(MESSAGES | WISHES, st.integers(0, 6)), min_size=1, max_size=8)


@dataclass(frozen=True)
class Outcome:
    """What is in force at the end."""

    plan: object
    granted: Granted
    filter: object
    wanted: object
    paths: object


class Host:
    """A follower over a real tunnel that is never opened, and the control session before it."""

    def __init__(self) -> None:
        system = FakeSystem("one")
        system.tun.close()
        self.tunnel = Tunnel(
            system,
            TunnelSettings(),
            DiscoPrivate(bytes(31) + b"\x02"),
            NodePrivate(bytes(31) + b"\x03"),
            now=lambda: 1.0,
            wall=lambda: WALL,
            random_bytes=os.urandom,
            on_change=lambda: None,
            on_failed=lambda _: None,
            on_session=lambda _: None,
            on_disco_key=lambda _, __: None,
            before_none=lambda: asyncio.sleep(0),
        )
        self.plans: list[Plan] = []
        self.follower = Follower(self._apply, self._look)
        self.session = MapSession(0.0, Calendar(lambda: 0.0, lambda: WALL), compressed=False)
        self.prefs, self.up = Prefs(), True
        self.netmap: NetworkMap | None = None

    def _apply(self, turn: Turn) -> Steps[None]:
        self.plans.append(turn.plan or EMPTY)
        return self.tunnel.apply(turn.plan, turn.alive)

    def _look(self) -> None:
        self.follower.follow(self.prefs, self.netmap if self.up else None)

    def hear(self, message: MapResponse) -> None:
        """Bytes of the map stream."""
        data = encode(message)
        self.session.receive_untrusted(len(data).to_bytes(4, "little") + data, 0.0)
        self.take()

    def take(self) -> None:
        """Events of the map stream, when its slices are done."""
        while (event := self.session.poll_event()) is not None:
            if isinstance(event, NetmapChanged):
                self.netmap = event.netmap
                self.follower.note(None if event.full else event.changed | event.removed)
                self._look()

    def wish(self, what: str) -> None:
        """Of the user."""
        change = {
            "shields": {"shields_up": not self.prefs.shields_up},
            "routes": {"route_all": not self.prefs.route_all},
        }.get(what, {})
        self.up = {"down": False, "up": True}.get(what, self.up)
        self.prefs = msgspec.structs.replace(self.prefs, **change)
        self._look()

    @property
    def granted(self) -> Granted:
        """Whom the datapath takes which sources from."""
        datapath, known = self.tunnel._datapath, self.tunnel._tables.peers
        assert isinstance(datapath, ReferenceDatapath)
        return {
            (known[p].key, net) for p, one in datapath._tables.peers.items() for net in one.allowed
        }

    def check(self) -> None:
        """All that is granted is granted by one plan, the one whose filter is in force."""
        granted, rules = self.granted, self.tunnel._tables.filter
        for plan in self.plans:
            if plan.filter is rules and granted <= _granted(plan):
                return
        assert not granted or rules == EMPTY.filter  # which lets nothing in

    async def finish(self) -> None:
        """Let all slices have their turn."""
        while steps := self.follower._steps:
            for _ in steps:
                self.check()
            await asyncio.sleep(0)
        await self.follower.close()

    def outcome(self) -> Outcome:
        """Of everything."""
        hub, plan = self.tunnel.magicsock._hub, self.follower.plan
        return Outcome(
            describe(plan),
            self.granted,
            self.tunnel._tables.filter,
            replace(
                self.tunnel._routed.router, blocked=frozenset()
            ),  # that remembers what was between
            {record.info for record in hub._roster.peers.values()},
        )


def _granted(plan: Plan) -> Granted:
    return {(one.key, net) for one in plan.peers.values() for net in one.entry.allowed}


@contextmanager
def slices_of(size: int, at_once: int) -> Iterator[None]:
    """Stops after so many peers; ``at_once``: bytes of JSON that are parsed without a stop."""
    with ExitStack() as stack:
        for module in SLICED:
            stack.enter_context(mock.patch.object(module, "SLICE", size))
        stack.enter_context(mock.patch.object(mapping, "AT_ONCE", at_once))
        yield


async def replay(history: list[tuple[MapResponse | str, int]], *, patient: bool) -> Outcome:
    """``patient`` lets everything come to its end before the next thing happens."""
    host = Host()
    host.hear(MapResponse(node=ME, peers=(peer(2, 0), peer(3, 1))))
    for what, turns in [*history, ("end", 0)]:
        left = turns
        while host.session.busy or ((patient or what == "end") and host.follower._steps):
            host.session.go_on_untrusted()
            host.take()
            host.check()
            await asyncio.sleep(0)
        for _ in range(left):
            host.check()
            await asyncio.sleep(0)
        if isinstance(what, MapResponse):
            host.hear(what)
        elif what != "end":
            host.wish(what)
        host.check()
    await host.finish()
    return host.outcome()


@given(HISTORY)
@settings(max_examples=150, deadline=None)
def test_slices_end_where_one_piece_ends(history: list[tuple[MapResponse | str, int]]) -> None:
    """Whatever arrives while a map is being worked on; and no stop shows more than one plan."""
    with slices_of(1, 0):
        hasty = asyncio.run(replay(history, patient=False))
    with slices_of(1000, 1 << 20):
        patient = asyncio.run(replay(history, patient=True))
    assert hasty == patient


async def test_no_network_closes_the_doors_at_once() -> None:
    """The first slice lets nothing in any more, however many peers are to be forgotten."""
    with slices_of(1, 0):
        host = Host()
        host.hear(MapResponse(node=ME, peers=tuple(peer(n, 0) for n in range(2, 9))))
        while host.session.busy or host.follower._steps:
            host.session.go_on_untrusted()
            host.take()
            await asyncio.sleep(0)
        assert len(host.granted) == 7
        host.wish("down")
        assert host.tunnel._tables.filter == EMPTY.filter
        assert host.tunnel._routed.router == EMPTY.router
        assert host.follower.plan is None
        assert host.follower._steps
        await host.finish()
        assert not host.granted


async def test_no_network_does_not_wait_for_a_plan_under_way() -> None:
    """Peers that are in already are locked out with the next slice."""
    with slices_of(1, 1 << 20):
        host = Host()
        host.hear(MapResponse(node=ME, peers=tuple(peer(n, 0) for n in range(2, 9))))
        while host.session.busy or not host.granted:
            host.session.go_on_untrusted()
            host.take()
            await asyncio.sleep(0)
        assert host.follower._steps
        host.up = False  # as when the key expires: the user wishes nothing else
        host._look()
        assert host.plans[-1] is EMPTY
        await host.finish()
        assert not host.granted


async def test_of_one_peer_that_changes_the_others_are_not_looked_at() -> None:
    """Of 10,000, that would take a second."""
    host = Host()
    host.hear(MapResponse(node=ME, peers=(peer(2, 0), peer(3, 0))))
    host.hear(MapResponse(peers_changed=(peer(2, 2),)))
    changed = host.plans[-1].changed
    assert changed is not None
    assert [host.tunnel._tables.peers[one].node.id for one in changed] == [2]
    await host.finish()


async def test_what_is_noted_is_looked_at_though_the_map_is_the_same() -> None:
    """As when a peer tells its disco key itself; where nothing is noted, nothing is done."""
    host = Host()
    host.hear(MapResponse(node=ME, peers=(peer(2, 0),)))
    plans = len(host.plans)
    host._look()
    assert len(host.plans) == plans
    host.follower.note(None)
    host._look()
    assert len(host.plans) == plans + 1
    await host.finish()


async def test_a_whole_map_says_who_has_a_disputed_prefix() -> None:
    """The last of the map, although another peer came to the tables later."""
    disputed = "10.9.9.0/24"

    def claiming(number: int) -> Node:
        one = peer(number, 0)
        return msgspec.structs.replace(one, allowed_ips=(*(one.addresses or ()), disputed))

    host = Host()
    host.prefs = msgspec.structs.replace(host.prefs, route_all=True)
    host.hear(MapResponse(node=ME, peers=(peer(3, 0), peer(4, 0))))
    host.hear(MapResponse(peers_changed=(peer(2, 0),)))
    host.hear(MapResponse(peers=(claiming(2), peer(3, 0), claiming(4))))
    await host.finish()
    datapath = host.tunnel._datapath
    assert isinstance(datapath, ReferenceDatapath)
    owner = datapath._tables.routes.lookup(bytes([10, 9, 9, 1]))
    assert owner is not None
    assert host.tunnel._tables.peers[owner.id].node.id == 4


async def test_whoever_waits_goes_on_when_the_last_slice_is_done() -> None:
    """Of the newest wish: slices that were given up for it are no end."""
    with slices_of(1, 1 << 20):
        host = Host()
        await host.follower.done()  # there was no wish yet
        host.hear(MapResponse(node=ME, peers=tuple(peer(n, 0) for n in range(2, 9))))
        while host.session.busy:
            host.session.go_on_untrusted()
            host.take()
        waiting = asyncio.ensure_future(host.follower.done())
        await asyncio.sleep(0)
        host.wish("shields")
        before = host.follower.plan
        await waiting
        after = host.follower.plan
        assert before is None
        assert after is not None
        assert after.filter == Filter.shields_up()
        await host.follower.close()
