"""The native datapath's own: many threads that stop it, floods, Python's lock, arguments."""

import asyncio
import ctypes
import importlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from tests.support.datapath import ME, PEER, THEM, Rig, make_native
from tests.support.packets import udp

from tailnet.agent.datapath import native
from tailnet.agent.datapath.interface import TunPort
from tailnet.agent.errors import UserError

OUT = udp(ME, THEM, b"out there" * 20)
IN = udp(THEM, ME, b"in here" * 20)


@pytest.fixture(params=[1, 4])
async def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:  # type: ignore[misc]
    """The native datapath with one queue or several, and with a session."""
    r = Rig(make_native, queues=request.param)
    await r.connect()
    yield r
    r.close()


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


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


def test_the_cipher_says_its_name_and_can_be_forbidden() -> None:
    """Auto is one of both; one that is not there is refused in words."""
    if native.why_not():
        pytest.skip(native.why_not())
    choice = native.AeadChoice
    assert native.NativeDatapath(aead=choice.RING).about.aead == "ring"
    reason = native.why_not(choice.IPSEC_MB)
    if reason:
        with pytest.raises(UserError, match="libipsec-mb"):
            native.NativeDatapath(aead=choice.IPSEC_MB)
    else:
        assert native.NativeDatapath(aead=choice.IPSEC_MB).about.aead.startswith("ipsec-mb ")
    assert native.NativeDatapath().about.aead.partition(" ")[0] in {"ring", "ipsec-mb"}
    with pytest.raises(ValueError, match="auto, ring or ipsec-mb"):
        importlib.import_module("tailnet_native").choose_aead("rot13")


def test_another_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale extension is not used."""
    if native.why_not():
        pytest.skip(native.why_not())
    monkeypatch.setattr(native, "INTERFACE", 99)
    assert "this daemon needs 99" in native.why_not()
    with pytest.raises(UserError, match="no native datapath"):
        native.NativeDatapath()
