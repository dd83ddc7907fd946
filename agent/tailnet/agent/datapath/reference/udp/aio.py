"""One UDP socket with generic segmentation and receive offload.

Source: Linux udp(7), UDP_SEGMENT and UDP_GRO.
"""

import errno
import logging
import socket
from collections import deque
from struct import Struct
from typing import NamedTuple

from tailnet.agent.datapath.interface import UdpPort

log = logging.getLogger("tailnet.datapath")

_SEGMENT, _GRO = 103, 104  # cmsg types of SOL_UDP
_MAX_SEGMENTS = 64
# Some kernels damage groups of equal datagrams; one more that nobody reads makes them unequal.
_SENTINEL = b"\x07"
_WORTH_A_SENTINEL = 8  # datagrams
_MAX_PAYLOAD = {socket.AF_INET: 65_507, socket.AF_INET6: 65_527}
_ANCILLARY = socket.CMSG_SPACE(4)
_BACKLOG = 4 << 20  # bytes that wait for a full socket

_segment_size = Struct("=H").pack
_gro_size = Struct("=i").unpack_from


class Received(NamedTuple):
    """Datagrams of ``size`` bytes each from one source; the last may be shorter."""

    length: int
    size: int
    src: tuple[str, int]


class UdpSocket:
    """Owns its descriptor.  What a full socket refuses waits in ``backlog``."""

    __slots__ = (
        "_backlog_size",
        "_gso",
        "_max",
        "_sentinel",
        "_sock",
        "backlog",
        "family",
    )

    def __init__(self, port: UdpPort) -> None:
        self._sock = socket.socket(port.family, socket.SOCK_DGRAM, fileno=port.fd)
        self._sock.setblocking(False)
        self._gso = port.gso
        self._sentinel = port.sentinel
        self._max = _MAX_PAYLOAD[self._sock.family]
        self.family = 4 if port.family == socket.AF_INET else 6
        self.backlog: deque[tuple[bytes, int, tuple[str, int]]] = deque()
        self._backlog_size = 0

    def fileno(self) -> int:
        """The descriptor."""
        return self._sock.fileno()

    @property
    def port(self) -> int:
        """The bound port."""
        return int(self._sock.getsockname()[1])

    def close(self) -> None:
        """Close the descriptor; the backlog is lost."""
        self.backlog.clear()
        self._sock.close()

    def receive_into(self, buffer: memoryview) -> Received:
        """One read.

        Raises:
            OSError: as the kernel says; ``BlockingIOError`` when there is nothing.
        """
        length, ancillary, _, src = self._sock.recvmsg_into([buffer], _ANCILLARY)
        size = length
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_UDP and kind == _GRO:
                (size,) = _gro_size(data)
        return Received(length, size, src[:2])

    def send(self, data: memoryview, size: int, dst: tuple[str, int]) -> int:
        """Send ``data`` as datagrams of ``size`` bytes; the last may be shorter.

        Returns:
            0 if it is on its way or in the backlog, ``EAGAIN`` if the backlog is full, else the
            errno that stopped it.
        """
        if self.backlog:
            return self._keep(data, size, dst)
        pos, end = 0, len(data)
        chunk = self._chunk(size, end)
        while pos < end:
            part = data[pos : pos + chunk]
            try:
                if len(part) > size:
                    cmsg = (socket.IPPROTO_UDP, _SEGMENT, _segment_size(size))
                    equal = self._sentinel and len(part) % size == 0
                    self._sock.sendmsg([part, _SENTINEL] if equal else [part], [cmsg], 0, dst)
                else:
                    self._sock.sendto(part, dst)
            except BlockingIOError:
                return self._keep(data[pos:], size, dst)
            except OSError as error:
                if len(part) <= size:
                    return error.errno or errno.EIO
                # EIO: this device has no checksum offload, so segmenting can never work on it.
                # Anything else may be about the size (a path with a small MTU): once only.
                if error.errno == errno.EIO and self._gso:
                    self._gso = False
                    log.info("UDP segmentation offload does not work here; it is off now")
                chunk = size
                continue
            pos += len(part)
        return 0

    def _chunk(self, size: int, total: int) -> int:
        """Bytes that one call may send of ``total``."""
        sentinel = self._sentinel
        if not self._gso or (sentinel and total < size * _WORTH_A_SENTINEL):
            return size
        return size * max(1, min(_MAX_SEGMENTS - sentinel, (self._max - sentinel) // size))

    def _keep(self, data: memoryview, size: int, dst: tuple[str, int]) -> int:
        if self._backlog_size + len(data) > _BACKLOG:
            return errno.EAGAIN
        self._backlog_size += len(data)
        self.backlog.append((bytes(data), size, dst))
        return 0

    def drain(self) -> int:
        """Send the backlog as far as the socket takes it; returns how many datagrams errors cost.

        What does not fit stays in ``backlog``, in order.
        """
        waiting, self.backlog = self.backlog, deque()
        self._backlog_size = 0
        lost = 0
        for data, size, dst in waiting:
            if self.send(memoryview(data), size, dst):
                lost += -(-len(data) // size)
        return lost
