"""The TUN device on a real kernel."""

import ctypes
import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.platform_contract import NODE, TunContract
from tests.support.platform_netns import ip, private_network

from tailnet.platform.interface import PlatformError, TunDevice
from tailnet.platform.linux.router import LinuxRouter
from tailnet.platform.linux.tun import open_tun

pytestmark = pytest.mark.netns
TUN = "tailnet0"


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """A namespace of its own."""
    with private_network():
        yield


def read_udp(fd: int, port: int, skip: int) -> bytes:
    """The first packet from the kernel that is IPv4 UDP to ``port``, without what precedes it."""
    while select.select([fd], [], [], 5)[0]:
        packet = os.read(fd, 70000)[skip:]
        if packet[0] >> 4 == 4 and packet[9] == 17 and packet[22:24] == port.to_bytes(2, "big"):
            return packet
    pytest.fail("no packet came")


class TestLinuxTun(TunContract):
    """The contract."""

    @pytest.fixture
    def tun(self) -> Iterator[TunDevice]:
        """Open."""
        tun = open_tun(TUN)
        yield tun
        tun.close()


@pytest.mark.parametrize("offload", [True, False])
async def test_packets_pass(offload: bool) -> None:
    """With a header of ten bytes before each, or plain."""
    tun = open_tun(TUN, offload=offload)
    assert tun.vnet_hdr == offload
    router = LinuxRouter(TUN)
    await router.up()
    await router.apply(NODE)
    fd = tun.detach()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"hello", ("100.64.0.2", 4242))
        packet = read_udp(fd, 4242, 10 if offload else 0)
        assert packet[28:] == b"hello"
        assert len(packet) == struct.unpack_from(">H", packet, 2)[0]
    finally:
        os.close(fd)


async def test_super_packets_come_whole() -> None:
    """A socket's UDP batch crosses the device in one read where the kernel can do that."""
    tun = open_tun(TUN)
    if not tun.uso:
        pytest.skip("needs Linux 6.2")
    router = LinuxRouter(TUN)
    await router.up()
    await router.apply(NODE)
    fd = tun.detach()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            udp_segment = 103
            sock.setsockopt(socket.IPPROTO_UDP, udp_segment, 1000)
            sock.sendto(bytes(10_000), ("100.64.0.2", 4242))
        assert len(read_udp(fd, 4242, 10)) == 28 + 10_000
    finally:
        os.close(fd)


def test_device_goes_with_its_descriptor() -> None:
    """Not before, although the object that opened it is gone."""
    fd = open_tun(TUN).detach()
    assert TUN in ip("-br", "link")
    os.close(fd)
    assert TUN not in ip("-br", "link")


def test_mtu_is_set() -> None:
    """From the first packet."""
    tun = open_tun(TUN, mtu=1400)
    assert tun.mtu == 1400
    assert "mtu 1400" in ip("link", "show", TUN)
    tun.close()


def test_name_in_use_is_told() -> None:
    """By another process, or by this one."""
    tun = open_tun(TUN)
    with pytest.raises(PlatformError, match=r"^TUN device tailnet0 is in use by another process"):
        open_tun(TUN)
    tun.close()
    open_tun(TUN).close()


@pytest.mark.parametrize("offload", [True, False])
async def test_several_queues_share_the_flows(offload: bool) -> None:
    """Each flow comes on one of them; the device goes with the last."""
    tun = open_tun(TUN, queues=4, offload=offload)
    assert tun.vnet_hdr == offload
    router = LinuxRouter(TUN)
    await router.up()
    await router.apply(NODE)
    fds = [tun.detach(), *tun.detach_more()]
    tun.close()
    assert len(fds) == 4
    used: dict[int, set[int]] = {}
    try:
        for _ in range(3):
            for port in range(5000, 5040):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.bind(("", port))
                    sock.sendto(b"hello", ("100.64.0.2", 4242))
        for queue, fd in enumerate(fds):
            assert not os.get_blocking(fd)
            while select.select([fd], [], [], 0)[0]:
                packet = os.read(fd, 70000)[10 if offload else 0 :]
                if packet[0] >> 4 == 4 and packet[22:24] == (4242).to_bytes(2):
                    used.setdefault(int.from_bytes(packet[20:22]), set()).add(queue)
    finally:
        for fd in fds:
            os.close(fd)
    assert len(used) == 40
    assert all(len(queues) == 1 for queues in used.values())
    assert len(set.union(*used.values())) > 1
    assert TUN not in ip("-br", "link")


def test_name_of_another_kind_of_interface_is_told() -> None:
    """It is not taken over."""
    with pytest.raises(PlatformError, match="interface lo exists and is not a TUN device"):
        open_tun("lo")


def test_without_privilege_the_remedy_is_told() -> None:
    """A child that gave its capabilities away cannot open the device."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        libc = ctypes.CDLL(None)
        header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
        libc.capset(header, nothing)
        try:
            open_tun(TUN)
        except PlatformError as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    said = os.read(read, 1000).decode()
    os.close(read)
    assert said.startswith("not allowed to open TUN device tailnet0; ")
    assert "NET_ADMIN" in said
    assert "\n" not in said


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EIO])
async def test_the_probe_tells_a_kernel_that_refuses_joined_packets(
    monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """This one takes them; of others only EINVAL counts."""
    tun = open_tun(TUN)
    try:
        await LinuxRouter(TUN).up()
        assert tun.probe()

        def refuse(_: int, __: bytes) -> int:
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr("tailnet.platform.linux.tun.os.write", refuse)
        assert tun.probe() is (error != errno.EINVAL)
    finally:
        tun.close()
    assert not tun.probe()


async def test_the_probe_goes_nowhere_and_is_well_formed() -> None:
    """The kernel received one super-packet, and answers nothing."""
    tun = open_tun(TUN)
    try:
        await LinuxRouter(TUN).up()
        before = statistics(TUN)
        assert tun.probe()
        after = statistics(TUN)
        assert after["rx_packets"] == before["rx_packets"] + 1
        assert after["rx_frame"] == before["rx_frame"]
        assert after["tx_packets"] == before["tx_packets"]
    finally:
        tun.close()


def statistics(name: str) -> dict[str, int]:
    """Counters of an interface."""
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    (fields,) = (line.split(":")[1].split() for line in lines if line.strip().startswith(name))
    names = "rx_bytes rx_packets rx_errs rx_drop rx_fifo rx_frame rx_c rx_m tx_bytes tx_packets"
    return dict(zip(names.split(), map(int, fields), strict=False))
