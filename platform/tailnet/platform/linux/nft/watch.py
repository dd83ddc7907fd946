"""When others change rules where ours are.

The kernel tells each change with the name of its table; those of other tables are none of our
business, however busy they are.  Our own changes are told as well: whoever listens looks whether
everything is there, which costs no more than to know them apart.

Source: Linux include/uapi/linux/netfilter/nfnetlink.h NFNLGRP_NFTABLES.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator

PAUSE = 0.5  # seconds that changes may go on before the listener looks
_NETLINK_NETFILTER = 12
_GROUP = 7  # NFNLGRP_NFTABLES
_READ = 64 << 10  # bytes
_TABLES = (b"filter\0", b"tailnetd\0", b"tailnetd-guard\0")


async def changes() -> AsyncIterator[None]:
    """One item for each burst of changes to the tables that hold our rules; for ever."""
    loop = asyncio.get_running_loop()
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER) as sock:
        sock.bind((0, 1 << (_GROUP - 1)))
        while True:
            concerned = concerns_us_untrusted(await _receive(sock))
            if not concerned:
                continue
            end = loop.time() + PAUSE
            try:
                async with asyncio.timeout_at(end):
                    while True:
                        await _receive(sock)
            except TimeoutError:
                yield None


def concerns_us_untrusted(messages: bytes | None) -> bool:
    """Whether one of our tables is named; ``None``: nobody knows."""
    return messages is None or any(name in messages for name in _TABLES)


async def _receive(sock: socket.socket) -> bytes | None:
    """What the kernel tells; ``None`` if it told more than the queue holds."""
    try:
        return await asyncio.get_running_loop().sock_recv(sock, _READ)
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        return None
