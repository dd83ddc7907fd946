"""Both datapaths under load: tables that change, sockets that are replaced, ends, and leaks."""

import asyncio
import ctypes
import gc
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from ipaddress import ip_network
from pathlib import Path as FilePath
from typing import Self

import pytest
from tests.support.datapath import (
    ME,
    PEER,
    THEM,
    MakeDatapath,
    Rig,
    allow_all,
    make_native,
    make_native_wide,
    make_reference,
    udp_socket,
)
from tests.support.packets import udp

from tailnet.agent.datapath.interface import Path, PeerEntry, UdpPort
from tailnet.agent.datapath.reference.aio import ReferenceDatapath
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import PeerId

pytestmark = pytest.mark.timeout(90)  # their load comes on top of the machine's

OUT = udp(ME, THEM, b"out there" * 20)
IN = udp(THEM, ME, b"in here" * 20)
AHEAD = 64  # packets from the network that may be under way, so that no socket buffer is ever full
LEAK = 1000  # bytes a change, less than what would stay if one in three left something

MakeRig = partial[Rig]
RIGS = {
    "reference": partial(Rig, make_reference),
    "native": partial(Rig, make_native),
    "native-queues": partial(Rig, make_native, queues=4),
    "native-ipsec-mb": partial(Rig, make_native_wide),
}


@pytest.fixture(params=RIGS.values(), ids=[*RIGS])
async def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:  # type: ignore[misc]
    """Each datapath, the native one also with several queues; with a session."""
    r: Rig = request.param()
    await r.connect()
    yield r
    r.close()


def count(what: str) -> int:
    """Descriptors (``fd``) or threads (``task``) of this process."""
    return len(os.listdir(f"/proc/self/{what}"))


def descriptors() -> int:
    """How many this process has open, those of garbage aside."""
    gc.collect()
    return count("fd")


def rounds(rig: Rig, many: int) -> int:
    """So many, or a quarter of them for the slower one."""
    return many // 4 if isinstance(rig.datapath, ReferenceDatapath) else many


class Load:
    """Threads that push packets into both ends until the block ends, and what came out.

    ``exact``: from the network only so many packets are under way that no socket loses any.
    """

    def __init__(self, rig: Rig, *, exact: bool = True) -> None:
        self.rig = rig
        self.sent = [0, 0]  # by the host, by the network
        self.delivered = 0  # to the host
        self._exact = exact
        self._received = rig.datapath.activity(PEER).rx_packets
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._host), threading.Thread(target=self._net)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    @property
    def received(self) -> int:
        """Packets that the datapath took from the network meanwhile."""
        return self.rig.datapath.activity(PEER).rx_packets - self._received

    def _host(self) -> None:
        while not self._done.is_set():
            try:
                self.rig.host.send(OUT)
                self.sent[0] += 1
            except OSError:
                self._done.wait(0.0001)

    def _net(self) -> None:
        counter = 0
        while not self._done.is_set():
            if self._exact and self.sent[1] - self.received >= AHEAD:
                self._done.wait(0.0001)
                continue
            try:
                self.rig.remote.sendto(self.rig.seal(IN, counter), self.rig.udp_addr)
                counter += 1
                self.sent[1] += 1
            except OSError:
                self._done.wait(0.0001)

    async def drain(self) -> None:
        """Take what comes out, for a moment."""
        for sock in (*self.rig.hosts, self.rig.remote):
            while True:
                try:
                    sock.recv(70000)
                except BlockingIOError:
                    break
                self.delivered += sock is not self.rig.remote
        await asyncio.sleep(0)


def resident() -> int:
    """Bytes of memory of this process (proc_pid_statm(5)) without what is free in its heaps."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(FilePath("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def growth(period: Callable[[], Awaitable[None]]) -> int:
    """Bytes of memory that each period takes at least, of four after a first one.

    A leak grows in every period; the allocator, which needs more when the threads get in each
    other's way, only in some.
    """
    await period()  # until the allocator has what it needs
    least: list[int] = []
    for _ in range(4):
        before = resident()
        await period()
        least.append(resident() - before)
    return min(least)


async def test_tables_that_change_under_load_lose_nothing_silently(rig: Rig) -> None:
    """Every packet goes through or is counted, while peers and filters come and go."""
    with Load(rig) as load:
        for n in range(rounds(rig, 2000)):
            more = {
                PeerId(10 + i): PeerEntry((ip_network(f"10.{i}.0.0/16"),)) for i in range(n % 9)
            }
            rig.datapath.set_peers({PEER: PeerEntry((ip_network(THEM),)), **more})
            rig.datapath.set_filter(allow_all() if n % 2 else Filter())
            rig.datapath.set_local([ip_network(ME)])
            await load.drain()
    assert load.delivered > 0
    assert min(load.sent) > 100
    # The daemon may have dropped by policy or on full sockets; nothing is malformed or forged.
    assert set(rig.dropped()) <= {"in_denied", "tun_write", "out_backlog", "out_send"}
    assert rig.datapath.activity(PEER).tx_packets > 0


async def change_everything(load: Load, times: int) -> None:
    """Each table in each round, of another peer than the one with traffic."""
    dp, other = load.rig.datapath, PeerId(2)
    mine = {PEER: PeerEntry((ip_network(THEM),))}
    for n in range(times):
        entry = PeerEntry((ip_network(f"10.{n % 200}.0.0/16"),))
        if n % 4 == 0:
            dp.set_peers({**mine, other: entry})
        else:
            dp.change_peers({other: None if n % 4 == 3 else entry})
        dp.set_filter(allow_all())
        dp.set_path(other, Path(load.rig.remote_addr, relay=False))
        dp.set_session(other, load.rig.session(30)._replace(local_index=1000 + n))
        dp.take_upcalls(100)
        await load.drain()


async def test_a_flood_goes_on_while_all_tables_change_and_nothing_leaks(rig: Rig) -> None:
    """Three thousand changes of each: every packet of both sides is carried or counted.

    A session takes 2 KB and a peer 1 KB: if one in three stayed the bound would be broken.
    """
    before = rig.datapath.activity(PEER).tx_packets
    with Load(rig) as load:
        await change_everything(load, times := rounds(rig, 700))
        files = descriptors()
        assert await growth(lambda: change_everything(load, times)) < LEAK * times
        assert descriptors() == files
    async with asyncio.timeout(5):
        while (
            rig.datapath.activity(PEER).tx_packets - before < load.sent[0]
            or load.received < load.sent[1]
            or load.delivered + rig.dropped().get("tun_write", 0) < load.sent[1]
        ):
            await load.drain()
    assert rig.datapath.activity(PEER).tx_packets - before == load.sent[0]
    assert load.received == load.sent[1]
    assert load.delivered + rig.dropped().get("tun_write", 0) == load.sent[1]
    assert min(load.sent) > 100
    assert set(rig.dropped()) <= {"tun_write", "out_backlog", "out_send"}


async def test_rebinding_under_load_leaves_no_descriptor_and_no_memory(rig: Rig) -> None:
    """The old sockets are closed as soon as no thread is in them."""
    before = descriptors()

    async def rebind(load: Load, times: int) -> None:
        for _ in range(times):
            new = udp_socket()
            rig.udp_addr = new.getsockname()
            rig.datapath.set_udp([UdpPort(new.detach(), socket.AF_INET, gso=True, gro=False)])
            rig.datapath.take_upcalls(100)
            await load.drain()

    with Load(rig, exact=False) as load:
        assert await growth(lambda: rebind(load, 80)) < 10 * LEAK * 80
    async with asyncio.timeout(5):
        while count("fd") > before:  # noqa: ASYNC110 -- a thread lets go of the last one
            await asyncio.sleep(0)
    assert descriptors() == before
    assert min(load.sent) > 100


async def live(made: Rig, *, stopped: bool) -> None:
    """One life under load, ended in the middle of it."""
    made.datapath.set_session(PEER, made.session())
    with Load(made, exact=False) as load:
        for _ in range(5):
            await load.drain()
        if stopped:
            made.datapath.stop()
    made.host.close()
    made.remote.close()


async def test_stopping_under_load_is_quick_and_leaks_nothing(make: MakeDatapath) -> None:
    """Two hundred lives; half of the native ones end without being stopped."""
    before, threads = descriptors(), count("task")

    async def lives() -> None:
        for n in range(40):
            await live(Rig(make), stopped=make is make_reference or n % 2 == 0)
        async with asyncio.timeout(5):
            while count("task") > threads:  # noqa: ASYNC110 -- the last one is about to leave
                await asyncio.sleep(0)

    assert await growth(lives) < 20 * LEAK * 40
    assert descriptors() == before
