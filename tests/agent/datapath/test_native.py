"""What only threads can get wrong: tables that change under load, rebinding, stopping, leaks."""

import asyncio
import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path as FilePath
from typing import Self

import pytest
from tests.support.datapath import ME, PEER, THEM, Rig, allow_all, make_native, udp_socket
from tests.support.packets import udp

from tailnet.agent.datapath import native
from tailnet.agent.datapath.interface import Path, PeerEntry, TunPort, UdpPort
from tailnet.agent.errors import UserError
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import PeerId

OUT = udp(ME, THEM, b"out there" * 20)
IN = udp(THEM, ME, b"in here" * 20)


@pytest.fixture(params=[1, 4])
async def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:  # type: ignore[misc]
    """The native datapath with one queue or several, and with a session."""
    r = Rig(make_native, queues=request.param)
    await r.connect()
    yield r
    r.close()


def count(what: str) -> int:
    """Descriptors (``fd``) or threads (``task``) of this process."""
    return len(os.listdir(f"/proc/self/{what}"))


def descriptors() -> int:
    """How many this process has open."""
    return count("fd")


class Load:
    """Threads that push packets into both ends until the block ends."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.sent = [0, 0]
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
            try:
                self.rig.remote.sendto(self.rig.seal(IN, counter), self.rig.udp_addr)
                counter += 1
                self.sent[1] += 1
            except OSError:
                self._done.wait(0.0001)


async def drain(rig: Rig) -> int:
    """Take what comes out, for a moment; how much it was."""
    taken = 0
    for sock in (rig.host, rig.remote):
        while True:
            try:
                sock.recv(70000)
                taken += 1
            except BlockingIOError:
                break
    await asyncio.sleep(0)
    return taken


async def test_tables_that_change_under_load_lose_nothing_silently(rig: Rig) -> None:
    """Every packet goes through or is counted, while peers and filters come and go."""
    taken = 0
    with Load(rig) as load:
        for n in range(2000):
            more = {
                PeerId(10 + i): PeerEntry((ip_network(f"10.{i}.0.0/16"),)) for i in range(n % 9)
            }
            rig.datapath.set_peers({PEER: PeerEntry((ip_network(THEM),)), **more})
            rig.datapath.set_filter(allow_all() if n % 2 else Filter())
            rig.datapath.set_local([ip_network(ME)])
            taken += await drain(rig)
    assert taken > 100
    assert sum(load.sent) > 100
    # The daemon may have dropped by policy or on full sockets; nothing is malformed or forged.
    assert set(rig.dropped()) <= {"in_denied", "tun_write", "out_backlog", "out_send"}
    assert rig.datapath.activity(PEER).tx_packets > 0


def resident() -> int:
    """Bytes of memory of this process (proc_pid_statm(5))."""
    return int(FilePath("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def change_everything(rig: Rig, rounds: int) -> None:
    """Each table in each round, of another peer than the one with traffic."""
    dp, other = rig.datapath, PeerId(2)
    mine = {PEER: PeerEntry((ip_network(THEM),))}
    for n in range(rounds):
        entry = PeerEntry((ip_network(f"10.{n % 200}.0.0/16"),))
        if n % 4 == 0:
            dp.set_peers({**mine, other: entry})
        else:
            dp.change_peers({other: None if n % 4 == 3 else entry})
        dp.set_filter(allow_all())
        dp.set_path(other, Path(rig.remote_addr, relay=False))
        dp.set_session(other, rig.session(30)._replace(local_index=1000 + n))
        await drain(rig)


async def test_a_flood_goes_on_while_all_tables_change_and_nothing_leaks(rig: Rig) -> None:
    """Three thousand changes of each: every packet of the host is sealed or counted.

    A session takes 2 KB and a peer 1 KB: if one in three stayed the bound would be broken.
    """
    before = rig.datapath.activity(PEER).tx_packets
    with Load(rig) as load:
        await change_everything(rig, 500)  # until the allocator has what it needs
        files, memory = descriptors(), resident()
        await change_everything(rig, 3000)
        assert descriptors() == files
        assert resident() - memory < 3 << 20
    async with asyncio.timeout(5):
        while rig.datapath.activity(PEER).tx_packets - before < load.sent[0]:
            await drain(rig)
    assert rig.datapath.activity(PEER).tx_packets - before == load.sent[0]
    assert load.sent[0] > 100
    assert 0 < rig.datapath.activity(PEER).rx_packets <= load.sent[1]
    assert set(rig.dropped()) <= {"tun_write", "out_backlog", "out_send"}
    rig.datapath.take_upcalls(100)


async def test_rebinding_under_load_leaves_no_descriptor(rig: Rig) -> None:
    """The old sockets are closed as soon as no thread is in them."""
    before = descriptors()
    with Load(rig):
        for _ in range(300):
            new = udp_socket()
            rig.udp_addr = new.getsockname()
            rig.datapath.set_udp([UdpPort(new.detach(), socket.AF_INET, gso=True, gro=False)])
            await drain(rig)
    async with asyncio.timeout(5):
        while descriptors() > before:  # noqa: ASYNC110 -- a thread lets go of the last one
            await asyncio.sleep(0)
    assert descriptors() == before


async def test_stopping_under_load_is_quick_and_leaks_nothing() -> None:
    """Two hundred lives; half of them end without being stopped."""
    before, threads = descriptors(), count("task")
    for n in range(200):
        rig = Rig(make_native)
        rig.datapath.set_session(PEER, rig.session())
        for _ in range(5):
            rig.host.send(OUT)
            rig.send(IN)
        if n % 2:
            rig.datapath.stop()
        rig.host.close()
        rig.remote.close()
        del rig
    assert descriptors() == before
    assert count("task") <= threads


async def test_many_threads_may_stop_it_at_once(rig: Rig) -> None:
    """And it stays stopped."""
    stoppers = [threading.Thread(target=rig.datapath.stop) for _ in range(8)]
    for thread in stoppers:
        thread.start()
    for thread in stoppers:
        thread.join(5)
        assert not thread.is_alive()
    assert os.fstat(rig.datapath.event_fd())


async def test_a_second_start_is_refused_and_closes_what_it_took(rig: Rig) -> None:
    """Once per object."""
    before = descriptors()
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with pytest.raises(OSError, match="started before"):
        rig.datapath.start(TunPort(a.detach(), 1280, vnet_hdr=False, uso=False), [])
    b.close()
    assert descriptors() == before


async def test_a_flood_of_strangers_reaches_the_slow_path_in_drops(rig: Rig) -> None:
    """Handshakes of one source are cut; the rest is counted."""
    datagram = bytes([2, 0, 0, 0]) + bytes(88)
    rig.datapath.stop()
    flooded = Rig(lambda clock: make_native(clock, 4096))
    try:
        sent = 0
        for _ in range(150):
            flooded.remote.sendto(datagram, flooded.udp_addr)
            sent += 1
        passed = len(await flooded.upcalls())
        async with asyncio.timeout(5):
            while passed + flooded.dropped().get("upcalls_full", 0) < sent:
                passed += len(flooded.datapath.take_upcalls(1000))
                await asyncio.sleep(0)
        assert passed == 100
    finally:
        flooded.close()


PUSH = """
import socket, sys
host = socket.socket(fileno=int(sys.argv[1]))
net = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
for line in sys.stdin:
    host.send(bytes.fromhex(sys.argv[3]))
    net.sendto(bytes.fromhex(line), ("127.0.0.1", int(sys.argv[2])))
"""


async def test_packets_go_on_while_python_holds_its_lock(rig: Rig) -> None:
    """Neither direction waits for the interpreter, not for a fifth of a second."""
    hold = ctypes.PyDLL(None).usleep  # does not let go of the lock while it sleeps
    before = rig.datapath.activity(PEER)
    data = [rig.seal(IN, counter) for counter in range(50)]
    pusher = subprocess.Popen(  # noqa: ASYNC220 -- it must run while this process stands still
        [sys.executable, "-c", PUSH, str(rig.host.fileno()), str(rig.udp_addr[1]), OUT.hex()],
        pass_fds=[rig.host.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert pusher.stdin is not None
    assert pusher.stdout is not None
    pusher.stdout.readline()
    pusher.stdin.write(b"".join(datagram.hex().encode() + b"\n" for datagram in data))
    pusher.stdin.close()
    hold(200_000)
    after = rig.datapath.activity(PEER)
    pusher.stdout.close()
    assert pusher.wait(5) == 0
    assert after.tx_packets > before.tx_packets
    assert after.rx_packets > before.rx_packets


def test_malformed_arguments_are_refused() -> None:
    """A slip of the caller is an error, not a crash."""
    if native.why_not():
        pytest.skip(native.why_not())
    raw = native.NativeDatapath()._native
    with pytest.raises(ValueError, match="18 bytes"):
        raw.set_local(b"x")
    with pytest.raises(ValueError, match="malformed rules"):
        raw.set_filter(b"x", False)
    with pytest.raises(ValueError, match="4 or 16 bytes"):
        raw.send_udp(b"x", 1, [b"y"])
    with pytest.raises(ValueError, match="32 bytes"):
        raw.set_session(1, 1, 1, b"", b"", 0.0, True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        raw.start(([-1], 1280, False, False, False), [])
    with pytest.raises(OSError, match="invalid"):
        raw.start(([], 1280, False, False, False), [])


def test_another_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale extension is not used."""
    if native.why_not():
        pytest.skip(native.why_not())
    monkeypatch.setattr(native, "INTERFACE", 99)
    assert "this daemon needs 99" in native.why_not()
    with pytest.raises(UserError, match="no native datapath"):
        native.NativeDatapath()
