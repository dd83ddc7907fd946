"""When others change rules where ours are.

The kernel tells each change with the name of its table; those of other tables are none of our
business, however busy they are.  Our own changes are told as well: whoever listens looks whether
everything is there, which costs no more than to know them apart.

Source: Linux include/uapi/linux/netfilter/nfnetlink.h NFNLGRP_NFTABLES.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Collection

PAUSE = 0.5  # seconds that changes may go on before the listener looks
_NETLINK_NETFILTER = 12
_GROUP = 7  # NFNLGRP_NFTABLES
_READ = 64 << 10  # bytes


async def changes(names: Callable[[], Collection[str]]) -> AsyncIterator[None]:
    """One item for each burst of changes to the tables ``names`` says; for ever."""
    loop = asyncio.get_running_loop()
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER) as sock:
        sock.bind((0, 1 << (_GROUP - 1)))
        while True:
            told = await _receive(sock)
            if not concerns_us_untrusted(told, names()):
                continue
            end = loop.time() + PAUSE
            try:
                async with asyncio.timeout_at(end):
                    while True:
                        await _receive(sock)
            except TimeoutError:
                yield None


def concerns_us_untrusted(messages: bytes | None, names: Collection[str]) -> bool:
    """Whether one of these tables is named; ``None``: nobody knows."""
    return messages is None or any(f"{name}\0".encode() in messages for name in names)


async def _receive(sock: socket.socket) -> bytes | None:
    """What the kernel tells; ``None`` if it told more than the queue holds."""
    try:
        return await asyncio.get_running_loop().sock_recv(sock, _READ)
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        return None
