"""What of ours the kernel has, and how it is changed: many routes in one message."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from socket import AF_INET, AF_INET6
from typing import ParamSpec, TypeVar

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.constants import ROUTE_TABLE
from tailnet.platform.linux.netlink import Kernel, Refusal
from tailnet.platform.linux.rules import TABLE_MAIN, Interface, Request, Route, Rule, State, ours

P = ParamSpec("P")
T = TypeVar("T")

FAMILIES = (AF_INET, AF_INET6)
AT_ONCE = 256  # routes; what is computed about more of them is computed in a thread

Policy = dict[int, frozenset[Rule] | None]  # rules by family; None: no policy routing in it
Connect = Callable[[], AbstractAsyncContextManager[Kernel]]


async def read_policy(kernel: Kernel) -> Policy:
    """The rules there are, also those of others."""
    return {family: await kernel.rules(family) for family in FAMILIES}


async def read(
    kernel: Kernel,
    policy: Policy,
    index: int | None,
    added: Iterable[Interface] = (),
) -> State:
    """What of ours is there.

    The main table can be huge and is read only where there is no other.
    """
    found: set[Rule] = set()
    there: set[Route] = set()
    table = TABLE_MAIN if policy[AF_INET] is None else ROUTE_TABLE
    for family, rules in policy.items():
        found |= rules or frozenset()
        there |= await kernel.routes(family, table)
    addrs = frozenset[Interface]() if index is None else await kernel.addrs(index)
    state = State(frozenset(found), frozenset(there), addrs)
    return await computed(len(there), ours, state, index, frozenset(added))


async def computed(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """A pure function of ``size`` routes; of 10,000, in a thread, or others wait for 100 ms."""
    if size <= AT_ONCE:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


def runs(steps: Iterable[Request]) -> Iterator[list[Request]]:
    """The same in parts: routes of one verb together, everything else one by one."""
    run: list[Request] = []
    for step in steps:
        if run and not (run[-1].verb is step.verb and _is_route(run[-1]) and _is_route(step)):
            yield run
            run = []
        run.append(step)
    if run:
        yield run


def _is_route(step: Request) -> bool:
    return isinstance(step.item, Route)


async def carry_out(kernel: Kernel, run: list[Request], index: int | None) -> list[Refusal]:
    """One of :func:`runs`; what was refused."""
    if run and _is_route(run[0]):
        return await kernel.change_routes(run)
    refused = []
    for step in run:
        try:
            await kernel.carry_out(step, index)
        except PlatformError as error:
            refused.append(Refusal(step, error))
    return refused


def raise_first(errors: list[PlatformError]) -> None:
    """The others are notes of it."""
    first, *others = errors
    for other in others:
        first.add_note(str(other))
    raise first
