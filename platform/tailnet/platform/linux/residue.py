"""What a daemon that died left in the kernel, removed."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.company import refuse_company
from tailnet.platform.linux.constants import ROUTE_TABLE
from tailnet.platform.linux.kernelstate import (
    FAMILIES,
    Connect,
    carry_out,
    raise_first,
    read,
    read_policy,
    runs,
)
from tailnet.platform.linux.netlink import open_netlink
from tailnet.platform.linux.rules import LEAK_GUARD, Request, Route, State, plan


async def cleanup(
    tun_name: str,
    *,
    leak_guard: bool = False,
    connect: Connect = open_netlink,
    names: Callable[[], Awaitable[list[str]]] | None = None,
) -> list[str]:
    """Remove what a daemon that died left behind: rules, all of table 52, tailnet addresses.

    Does everything it can.

    Args:
        tun_name: the device of that daemon, which may be gone.
        leak_guard: what stops leaks stays.
        connect: as for ``LinuxRouter``.
        names: gives the host's names back, before routes go, while questions find their way.

    Returns:
        A line for each thing done.

    Raises:
        HostTakenError: another daemon is running; nothing was done.
        PlatformError: the first thing that could not be removed.
    """
    removed: list[str] = []
    errors: list[PlatformError] = []
    async with connect() as kernel:
        link = await kernel.link(tun_name)
        index = link.index if link else None
        have = await read(kernel, await read_policy(kernel), index)
        refuse_company(have.routes, index)
        if names is not None:
            try:
                removed += await names()
            except PlatformError as error:
                errors.append(error)
        table = frozenset[Route]().union(*[await kernel.routes(f, ROUTE_TABLE) for f in FAMILIES])
        blocks = have.routes & LEAK_GUARD if leak_guard else frozenset()
        want = State(have.rules if blocks else frozenset(), blocks)
        for run in runs(plan(want, replace(have, routes=have.routes | table))):
            refused = dict(await carry_out(kernel, run, index))
            errors += refused.values()
            removed += [_past(step) for step in run if step not in refused]
    if errors:
        raise_first(errors)
    return removed


def _past(step: Request) -> str:
    return str(step).replace("remove ", "removed ", 1)
