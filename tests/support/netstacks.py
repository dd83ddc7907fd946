"""Two userspace hosts whose packets reach each other without a datapath."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from ipaddress import ip_interface, ip_network
from typing import NamedTuple

from tailnet.agent.netstack.aio import Userspace
from tailnet.agent.netstack.dialer.aio import Dialer
from tailnet.agent.netstack.interface import Stack
from tailnet.platform.interface import RouterConfig

ONE, TWO = ("100.64.0.1", "fd7a::1"), ("100.64.0.2", "fd7a::2")
NETS = frozenset((ip_network("100.64.0.0/24"), ip_network("fd7a::/64")))


class Pair(NamedTuple):
    """``one`` dials; servers on this machine's loopback are behind ``two``."""

    one: Userspace
    two: Userspace
    dialer: Dialer


async def by_the_system(_: str) -> None:
    """Every name is for the system's resolver."""


def native_stack(fd: int) -> Stack:
    """The real one."""
    from tailnet_native import Netstack  # noqa: PLC0415 - optional

    return Netstack(fd, max_streams=64, max_half_open=16)


def _carry(source: int, sink: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while data := os.read(source, 70_000):
            os.write(sink, data)


@contextlib.asynccontextmanager
async def two_stacks(failures: list[str]) -> AsyncIterator[Pair]:
    """Started, with addresses; names ``one`` and ``two`` are known to the dialer."""
    loop = asyncio.get_running_loop()
    stacks = [Userspace(native_stack, now=loop.time, on_failed=failures.append) for _ in range(2)]
    left, right = (stack.open_tun().detach() for stack in stacks)
    loop.add_reader(left, _carry, left, right)
    loop.add_reader(right, _carry, right, left)
    for stack, addresses in zip(stacks, (ONE, TWO), strict=True):
        await stack.start()
        await stack.up()
        await stack.apply(RouterConfig(frozenset(map(ip_interface, addresses)), NETS))
    names = {
        name: tuple(ip_interface(text).ip for text in addresses)
        for name, addresses in (("one", ONE), ("two", TWO))
    }
    dialer = Dialer(lambda: names, by_the_system, stacks[0])
    await dialer.start()
    try:
        yield Pair(stacks[0], stacks[1], dialer)
    finally:
        await dialer.close()
        for stack, end in zip(stacks, (left, right), strict=True):
            await stack.close()
            loop.remove_reader(end)
            os.close(end)
