"""Several queues of one TUN device, on every implementation; the test plays the kernel.

The kernel keeps a flow on one queue as long as the answers to it come there.
"""

import asyncio
import struct
from collections import defaultdict
from collections.abc import Iterator

import pytest
from tests.support.datapath import ME, PEER, THEM, MakeDatapath, Rig
from tests.support.packets import udp

from tailnet.agent.datapath.interface import NoSession

FLOWS, ROUNDS, WINDOW = 12, 40, 6  # WINDOW packets of each flow are under way at a time


@pytest.fixture(params=[1, 2, 4])
async def rig(make: MakeDatapath, request: pytest.FixtureRequest) -> Iterator[Rig]:  # type: ignore[misc]
    """A datapath whose device has that many queues, with a session."""
    r = Rig(make, queues=request.param)
    await r.connect()
    yield r
    r.close()


def numbered(flow: int, number: int, *, back: bool = False) -> bytes:
    """A packet of a flow, or an answer."""
    data = struct.pack("!II", flow, number) + bytes(flow * 16)
    if back:
        return udp(THEM, ME, data, sport=53, dport=4000 + flow)
    return udp(ME, THEM, data, sport=4000 + flow, dport=53)


def number_of(packet: bytes) -> tuple[int, int]:
    """Flow and number of either."""
    flow, number = struct.unpack_from("!II", packet, 28)
    return flow, number


async def taken(rig: Rig) -> list[tuple[int, bytes]]:
    """The packets written to the queues since, one or more, each with its queue."""
    got: list[tuple[int, bytes]] = []
    async with asyncio.timeout(5):
        while not got:
            for queue, host in enumerate(rig.hosts):
                while True:
                    try:
                        got.append((queue, host.recv(70000)))
                    except BlockingIOError:
                        break
            await asyncio.sleep(0)
    return got


async def test_each_flow_leaves_in_order_and_nothing_is_lost(rig: Rig) -> None:
    """Counters are exact, and no message number is used twice."""
    seen: dict[int, list[int]] = defaultdict(list)
    counters = set()
    for first in range(0, ROUNDS * WINDOW, WINDOW):
        for number in range(first, first + WINDOW):
            for flow in range(FLOWS):
                rig.hosts[flow % len(rig.hosts)].send(numbered(flow, number))
        for _ in range(WINDOW * FLOWS):
            datagram = await rig.receive()
            counters.add(datagram[8:16])
            flow, number = number_of(rig.open(datagram))
            seen[flow].append(number)
    assert all(seen[flow] == list(range(ROUNDS * WINDOW)) for flow in range(FLOWS))
    assert len(counters) == FLOWS * ROUNDS * WINDOW
    activity = rig.datapath.activity(PEER)
    assert activity.tx_packets == FLOWS * ROUNDS * WINDOW
    assert activity.tx_bytes == ROUNDS * WINDOW * sum(len(numbered(f, 0)) for f in range(FLOWS))
    assert rig.dropped() == {}


async def test_each_flow_enters_in_order_through_one_queue(rig: Rig) -> None:
    """Which one: that is the same for all of its packets."""
    seen: dict[int, list[int]] = defaultdict(list)
    queues: dict[int, set[int]] = defaultdict(set)
    for first in range(0, ROUNDS * WINDOW, WINDOW):
        for number in range(first, first + WINDOW):
            for flow in range(FLOWS):
                rig.send(numbered(flow, number, back=True))
        count = 0
        while count < WINDOW * FLOWS:
            for queue, packet in await taken(rig):
                flow, number = number_of(packet)
                seen[flow].append(number)
                queues[flow].add(queue)
                count += 1
    assert all(seen[flow] == list(range(ROUNDS * WINDOW)) for flow in range(FLOWS))
    assert all(len(used) == 1 for used in queues.values())
    assert rig.datapath.activity(PEER).rx_packets == FLOWS * ROUNDS * WINDOW
    assert rig.dropped() == {}


async def test_answers_leave_the_flow_on_its_queue(rig: Rig) -> None:
    """So the kernel never moves it; a datapath without threads has all in one place anyway."""
    for flow in range(FLOWS):
        queue = flow * 7 % len(rig.hosts)
        rig.hosts[queue].send(numbered(flow, 0))
        assert number_of(rig.open(await rig.receive())) == (flow, 0)
        rig.send(numbered(flow, 0, back=True))
        [(written, packet)] = await taken(rig)
        assert number_of(packet) == (flow, 0)
        assert written == (queue if rig.datapath.threaded else 0)


async def test_what_waits_for_a_session_is_not_overtaken(make: MakeDatapath) -> None:
    """Whichever queue it came from."""
    rig = Rig(make, queues=4)
    try:
        for number in range(5):
            for flow in range(FLOWS):
                rig.hosts[flow % 4].send(numbered(flow, number))
        assert await rig.upcalls() == [NoSession(PEER)]
        rig.datapath.set_session(PEER, rig.session())
        seen: dict[int, list[int]] = defaultdict(list)
        for number in range(5, 10):
            for flow in range(FLOWS):
                rig.hosts[flow % 4].send(numbered(flow, number))
        for _ in range(10 * FLOWS):
            flow, number = number_of(rig.open(await rig.receive()))
            seen[flow].append(number)
        assert all(seen[flow] == list(range(10)) for flow in range(FLOWS))
        assert rig.dropped() == {}
    finally:
        rig.close()


async def test_every_queue_is_closed_at_the_end(rig: Rig) -> None:
    """The other side sees the end of each."""
    rig.datapath.stop()
    assert [host.recv(1) for host in rig.hosts] == [b""] * len(rig.hosts)
