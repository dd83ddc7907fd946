"""The sockets.  Neither is ever waited for."""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime

from tailnet.agent.addr import VIA
from tailnet.agent.datapath import tap
from tailnet.agent.datapath.interface import TunPort
from tailnet.agent.datapath.reference import drops, vnet
from tailnet.agent.datapath.reference.outbound import READ, SLACK
from tailnet.agent.datapath.reference.split import split
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.parse import Buffer
from tailnet.agent.keys import PeerId

_VIA = VIA.network_address.packed[:8]
_READS = 16  # answers per wake-up, after which others of the loop get their turn


class ServiceSocket:
    """Packets for the services of the daemon, and theirs for the operating system.

    Args:
        fd: a packet socket, taken.
        counts: drop counters.
    """

    def __init__(self, fd: int, counts: dict[str, int]) -> None:
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._drops = counts
        self._tun: TunPort | None = None
        self.tap: TapSocket | None = None

    def start(self, tun: TunPort) -> None:
        """Answers go to this device from now on."""
        self._tun = tun
        asyncio.get_running_loop().add_reader(self._sock, self._on_readable)

    def close(self) -> None:
        """Idempotent."""
        if self._sock.fileno() >= 0:
            if self._tun is not None:
                asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def hand_over(self, read: Buffer, *, vnet_hdr: bool) -> bool:
        """Give a read of the device away; false if it was not taken."""
        try:
            if vnet_hdr:
                self._sock.send(read)
            else:
                self._sock.sendmsg((vnet.PLAIN, read))
        except OSError:
            return False
        return True

    def _on_readable(self) -> None:
        for _ in range(_READS):
            buffer = bytearray(READ + SLACK)
            try:
                size = self._sock.recv_into(buffer, READ)
            except BlockingIOError:
                return
            except OSError:
                size = 0
            if not size:
                self.close()  # services that end are nothing that packets of peers suffer from
                return
            self._write(buffer, size)

    def _write(self, buffer: bytearray, size: int) -> None:
        assert self._tun is not None
        view = memoryview(buffer)
        if self.tap is not None:
            self.tap.put(tap.Direction.IN, "", None, view[vnet.LEN : size])
        try:
            if self._tun.vnet_hdr:
                os.write(self._tun.fd, view[:size])
                return
            for start, end in split(buffer, size):
                os.write(self._tun.fd, view[start:end])
        except (OSError, BadPacket):
            self._drops[drops.TUN_WRITE] += 1


class SiteSocket:
    """Packets for the stack of the sites, and its own for peers.

    Args:
        fd: a packet socket, taken.
        on_read: gets what the stack sends, in a buffer as of a device with a virtio-net header,
            and its size; 0 after the last of some.
    """

    def __init__(self, fd: int, on_read: Callable[[bytearray, int], None]) -> None:
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._on_read = on_read
        self._buffer = bytearray(READ + SLACK)
        self._view = memoryview(self._buffer)[:READ]
        self._listens = False

    def start(self) -> None:
        """Listen from now on."""
        self._listens = True
        asyncio.get_running_loop().add_reader(self._sock, self._on_readable)

    def close(self) -> None:
        """Idempotent."""
        if self._sock.fileno() >= 0:
            if self._listens:
                asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def put(self, buffers: Sequence[Buffer], *, vnet_hdr: bool) -> None:
        """Give one write of the device away.

        Raises:
            OSError: it was not taken.
        """
        if not vnet_hdr:
            self._sock.sendmsg((vnet.PLAIN, *buffers))
            return
        if buffers[0][1] != vnet.GSO_UDP:
            self._sock.sendmsg(buffers)
            return
        joined = bytearray().join(buffers)  # which the stack does not take
        for start, end in split(joined, len(joined)):
            self._sock.sendmsg((vnet.PLAIN, joined[start:end]))

    def _on_readable(self) -> None:
        for _ in range(_READS):
            try:
                size = self._sock.recv_into(self._view)
            except BlockingIOError:
                break
            except OSError:
                size = 0
            if not size:
                self.close()  # a stack that ends is nothing that other packets suffer from
                break
            self._on_read(self._buffer, size)
        self._on_read(self._buffer, 0)


def is_for_site(buffers: Sequence[Buffer], *, vnet_hdr: bool) -> bool:
    """One write of the device, the header apart, is a packet to a site."""
    head = buffers[1 if vnet_hdr else 0]
    return head[0] >> 4 == 6 and head[24:32] == _VIA


class TapSocket:
    """Copies of packets for a capture.

    Args:
        fd: a packet socket, taken.
        counts: drop counters.
        wall: UTC time.
    """

    def __init__(self, fd: int, counts: dict[str, int], wall: Callable[[], datetime]) -> None:
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._drops = counts
        self._wall = wall

    def put(
        self, direction: tap.Direction, dropped: str, peer: PeerId | None, packet: Buffer
    ) -> None:
        """Give a copy, or count that it was not taken in time."""
        at = int(self._wall().timestamp() * 1_000_000) * 1000
        record = tap.Tapped(direction, dropped, peer, at, packet)
        try:
            self._sock.send(tap.encode(record, drops.NAMES))
        except OSError:
            self._drops[drops.CAPTURE] += 1

    def close(self) -> None:
        """Idempotent."""
        self._sock.close()
