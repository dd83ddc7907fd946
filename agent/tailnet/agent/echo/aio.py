"""The shell that pings: a datagram socket of ICMP, or a raw one where that is not allowed."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from tailnet.agent.addr import IPAddress
from tailnet.agent.echo.message import encode_request, reply_data_untrusted
from tailnet.agent.errors import BadPacket

DATA_LEN = 16  # random bytes that come back
LARGEST = 2048


async def echo(  # noqa: PLR0913 - what is asked, and by which world
    src: IPAddress | None,
    dst: IPAddress,
    wait: float,
    *,
    now: Callable[[], float],
    random_bytes: Callable[[int], bytes],
    mark: Callable[[socket.socket], None] | None = None,
) -> float | None:
    """Ping from one of our addresses; the round trip [s], ``None`` without an answer in time.

    ``mark`` prepares the socket before it connects; without ``src`` the kernel chooses.

    Raises:
        OSError: the system allows no such socket, or has no way there.
    """
    loop = asyncio.get_running_loop()
    data = random_bytes(DATA_LEN)
    with contextlib.closing(_open(dst.version)) as sock:
        if mark is not None:
            mark(sock)
        if src is not None:
            sock.bind((str(src), 0))
        sock.connect((str(dst), 0))
        began = now()
        await loop.sock_sendall(sock, encode_request(dst.version, random_bytes(2), data))
        limit = asyncio.timeout(wait)
        try:
            async with limit:
                while not _answers(await loop.sock_recv(sock, LARGEST), dst.version, data):
                    pass  # of another ping, or garbage
                return now() - began
        except TimeoutError:
            if not limit.expired():
                raise
            return None


def _answers(packet: bytes, version: int, data: bytes) -> bool:
    try:
        return reply_data_untrusted(version, packet) == data
    except BadPacket:
        return False


def _open(version: int) -> socket.socket:
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP)
        if version == 4
        else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    try:
        return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, protocol)
    except PermissionError:  # see ping_group_range in icmp(7)
        return socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
