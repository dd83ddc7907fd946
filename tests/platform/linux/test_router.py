"""The router over a kernel that refuses, lacks things, and forgets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from socket import AF_INET, AF_INET6
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.platform_contract import EXIT_NODE, EXIT_NODE_WITH_LAN, NODE

from tailnet.platform.interface import PlatformError, RouterConfig
from tailnet.platform.linux import router as router_module
from tailnet.platform.linux.netlink import Kernel, Link, Refusal
from tailnet.platform.linux.residue import cleanup
from tailnet.platform.linux.router import ALWAYS_READ, LinuxRouter
from tailnet.platform.linux.rules import Interface, Prefix, Request, Route, Rule, Verb, family_of

SOME = st.frozensets(
    st.sampled_from(sorted(EXIT_NODE.routes | EXIT_NODE_WITH_LAN.local_routes, key=str))
)


class PaperKernel:
    """A ``Kernel`` in memory; ``refuse`` names what it will not do."""

    def __init__(self, families: frozenset[int] = frozenset({AF_INET, AF_INET6})) -> None:
        self.families = families  # with policy rules
        self.ipv6 = True
        self.device: Link | None = Link(7, 1500, up=False)
        self.items: set[Rule | Route | Interface] = set()
        self.refuse: set[str] = set()
        self.cancel_after: int | None = None
        self.calls: Counter[str] = Counter()
        self.done: list[str] = []

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Kernel]:
        """For one operation."""
        yield self

    async def link(self, name: str) -> Link | None:
        """There is one device."""
        del name
        return self.device

    async def set_link(self, index: int, *, up: bool = True, mtu: int | None = None) -> None:
        """Down, it loses its routes."""
        assert self.device is not None
        if "link" in self.refuse:
            line = "cannot set link"
            raise PlatformError(line)
        self.device = Link(index, mtu or self.device.mtu, up=up)
        if not up:
            self.items = {i for i in self.items if not (isinstance(i, Route) and i.oif == index)}

    async def rules(self, family: int) -> frozenset[Rule] | None:
        """None without policy routing."""
        if family not in self.families:
            return None
        return frozenset(r for r in self.items if isinstance(r, Rule) and r.family == family)

    async def routes(self, family: int, table: int) -> frozenset[Route]:
        """Of one table."""
        self.calls[f"routes {table}"] += 1
        routes = (r for r in self.items if isinstance(r, Route))
        return frozenset(r for r in routes if (family_of(r), r.table) == (family, table))

    async def addrs(self, index: int) -> frozenset[Interface]:
        """Of the device."""
        del index
        return frozenset(a for a in self.items if not isinstance(a, Rule | Route))

    async def lan(self, tun: int) -> frozenset[Prefix]:
        """One link."""
        del tun
        return frozenset({ip_network("192.0.2.0/24")})

    async def carry_out(self, request: Request, index: int | None) -> None:
        """Unless refused."""
        del index
        if str(request) in self.refuse:
            line = f"cannot {request}"
            raise PlatformError(line)
        if self.cancel_after is not None:
            self.cancel_after -= 1
            if self.cancel_after < 0:
                raise asyncio.CancelledError
        self.done.append(str(request))
        if request.verb is Verb.DELETE:
            self.items.discard(request.item)
            return
        if isinstance(request.item, Route):
            place = request.item.place
            self.items = {r for r in self.items if not (isinstance(r, Route) and r.place == place)}
        self.items.add(request.item)

    async def change_routes(self, requests: Sequence[Request]) -> list[Refusal]:
        """One by one."""
        refused = []
        for request in requests:
            try:
                await self.carry_out(request, None)
            except PlatformError as error:
                refused.append(Refusal(request, error))
        return refused

    def ipv6_usable(self, device: str | None) -> bool:
        """As set."""
        del device
        return self.ipv6

    def destinations(self, table: int) -> set[str]:
        """Of the routes in a table."""
        return {str(r.dst) for r in self.items if isinstance(r, Route) and r.table == table}


async def router_on(kernel: PaperKernel) -> LinuxRouter:
    """Up."""
    router = LinuxRouter("tun0", connect=kernel.connect)
    await router.up()
    return router


async def test_one_failure_does_not_stop_the_rest() -> None:
    """Everything else is done; the first error is raised, the others are its notes."""
    kernel = PaperKernel()
    router = await router_on(kernel)
    kernel.refuse = {"add route 0.0.0.0/0 table 52", "add address 100.64.0.1/32"}
    with pytest.raises(PlatformError) as caught:
        await router.apply(EXIT_NODE)
    assert str(caught.value) == "cannot add address 100.64.0.1/32"
    assert caught.value.__notes__ == ["cannot add route 0.0.0.0/0 table 52"]
    assert kernel.destinations(52) == {str(r) for r in EXIT_NODE.routes} - {"0.0.0.0/0"}
    kernel.refuse = set()
    await router.apply(EXIT_NODE)
    assert kernel.destinations(52) == {str(r) for r in EXIT_NODE.routes}


async def test_where_adding_fails_nothing_of_the_family_is_deleted() -> None:
    """Traffic that the old routes kept in the tunnel must not get into the open."""
    kernel = PaperKernel()
    router = await router_on(kernel)
    await router.apply(EXIT_NODE)
    halves = frozenset(ip_network(p) for p in ("0.0.0.0/1", "128.0.0.0/1"))
    kernel.refuse = {"add route 128.0.0.0/1 table 52"}
    with pytest.raises(PlatformError, match=r"128\.0\.0\.0/1"):
        await router.apply(RouterConfig(NODE.local_addrs, halves))
    assert "0.0.0.0/0" in kernel.destinations(52)
    assert "::/0" not in kernel.destinations(52)


async def test_without_policy_routing_routes_go_to_main(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told once; exceptions make no sense there; ``down`` removes them."""
    kernel = PaperKernel(frozenset())
    router = await router_on(kernel)
    await router.apply(EXIT_NODE_WITH_LAN)
    await router.apply(NODE)
    assert kernel.destinations(254) == {str(r) for r in NODE.routes}
    assert kernel.destinations(52) == set()
    assert caplog.text.count("no policy routing") == 1
    await router.down()
    assert kernel.items == set()


async def test_ipv6_without_policy_routing_is_left_alone() -> None:
    """Half a kernel."""
    kernel = PaperKernel(frozenset({AF_INET}))
    router = await router_on(kernel)
    await router.apply(EXIT_NODE)
    assert {family_of(i) for i in kernel.items} == {AF_INET}


async def test_when_ipv6_goes_what_was_set_goes() -> None:
    """It was usable at first."""
    kernel = PaperKernel()
    router = await router_on(kernel)
    await router.apply(EXIT_NODE)
    kernel.ipv6 = False
    await router.apply(EXIT_NODE)
    assert {family_of(i) for i in kernel.items} == {AF_INET}


async def test_link_is_brought_up_again() -> None:
    """Whoever took it down."""
    kernel = PaperKernel()
    router = await router_on(kernel)
    kernel.device = Link(7, 1400, up=False)
    await router.apply(NODE)
    assert kernel.device == Link(7, 1400, up=True)


async def test_down_takes_the_link_down() -> None:
    """Which removes ten thousand routes at once."""
    kernel = PaperKernel()
    router = await router_on(kernel)
    await router.apply(NODE)
    kernel.done.clear()
    await router.down()
    assert kernel.device == Link(7, 1280, up=False)
    assert not any("route" in line for line in kernel.done)
    await router.up()
    await router.apply(NODE)
    assert kernel.destinations(52) == {str(r) for r in NODE.routes}


async def test_device_that_stays_up_does_not_keep_the_rest() -> None:
    """Everything else is removed all the same."""
    kernel = PaperKernel()
    router = await router_on(kernel)
    await router.apply(NODE)
    kernel.refuse = {"link"}
    with pytest.raises(PlatformError, match="cannot set link"):
        await router.down()
    assert kernel.items == set()


async def test_missing_device_is_an_error() -> None:
    """In ``apply``; ``down`` does without."""
    kernel = PaperKernel()
    router = await router_on(kernel)
    kernel.device = None
    with pytest.raises(PlatformError, match="there is no interface tun0"):
        await router.apply(NODE)
    await router.down()
    assert kernel.items == set()


async def test_large_tables_are_not_read_for_every_change() -> None:
    """But after an error, and when the same is applied again."""
    many = frozenset(ip_network(f"100.65.{n >> 8}.{n & 255}/32") for n in range(ALWAYS_READ + 2))
    one = ip_network("100.65.0.1/32")
    kernel = PaperKernel()
    router = await router_on(kernel)
    await router.apply(RouterConfig(routes=many))
    kernel.calls.clear()
    kernel.done.clear()
    await router.apply(RouterConfig(routes=many - {one}))
    assert kernel.done == ["remove route 100.65.0.1/32 table 52"]
    assert kernel.calls["routes 52"] == 0
    kernel.items = {i for i in kernel.items if not isinstance(i, Route)}  # by somebody else
    await router.apply(RouterConfig(routes=many - {one}))
    assert kernel.destinations(52) == {str(r) for r in many - {one}}
    kernel.refuse = {"add route 100.65.0.1/32 table 52"}
    with pytest.raises(PlatformError, match="cannot add"):
        await router.apply(RouterConfig(routes=many))
    kernel.refuse = set()
    kernel.calls.clear()
    await router.apply(RouterConfig(routes=many))
    assert kernel.calls["routes 52"] == 2
    assert str(one) in kernel.destinations(52)


@given(st.lists(st.tuples(SOME, SOME), max_size=5), SOME, SOME)
async def test_changes_to_large_tables_lead_to_the_same(
    before: list[tuple[frozenset[Prefix], frozenset[Prefix]]],
    routes: frozenset[Prefix],
    throws: frozenset[Prefix],
) -> None:
    """As if everything were read and written each time, also where exceptions come and go."""
    few = frozenset(ip_network(f"100.65.0.{n}/32") for n in range(3))
    kernel, anew = PaperKernel(), PaperKernel()
    router = await router_on(kernel)
    last = RouterConfig(NODE.local_addrs, routes | few, throws)
    with patch.object(router_module, "ALWAYS_READ", 2):
        for some, other in before:
            await router.apply(RouterConfig(NODE.local_addrs, some | few, other))
        await router.apply(last)
    await (await router_on(anew)).apply(last)
    assert kernel.items == anew.items


@given(st.frozensets(st.integers(0, 20)), st.frozensets(st.integers(0, 20)))
def test_what_two_sets_of_routes_do_not_share(one: frozenset[int], two: frozenset[int]) -> None:
    """The second difference is left out only where it is empty."""
    nets = [frozenset(ip_network((0x0A000000 + n, 32)) for n in numbers) for numbers in (one, two)]
    assert router_module._not_in_both(*nets) == nets[0] ^ nets[1]


async def test_cancelled_change_is_not_relied_on() -> None:
    """Nobody knows how far it got."""
    many = frozenset(ip_network(f"100.65.{n >> 8}.{n & 255}/32") for n in range(ALWAYS_READ + 9))
    few = frozenset(list(many)[: ALWAYS_READ + 1])
    kernel = PaperKernel()
    router = await router_on(kernel)
    await router.apply(RouterConfig(routes=many))
    kernel.cancel_after = 3
    with pytest.raises(asyncio.CancelledError):
        await router.apply(RouterConfig(routes=few))
    kernel.cancel_after = None
    await router.apply(RouterConfig(routes=few))
    assert kernel.destinations(52) == {str(r) for r in few}


async def test_full_main_table_is_not_read() -> None:
    """A router with the whole internet in it would take seconds."""
    kernel = PaperKernel()
    router = await router_on(kernel)
    await router.apply(NODE)
    await router.down()
    await cleanup("tun0", connect=kernel.connect)
    assert kernel.calls["routes 254"] == 0


async def test_cleanup_does_all_it_can() -> None:
    """One refusal does not keep the rest."""
    kernel = PaperKernel()
    router = await router_on(kernel)
    await router.apply(EXIT_NODE_WITH_LAN)
    kernel.refuse = {"remove IPv4 rule 5270: lookup 52"}

    async def names() -> list[str]:
        assert kernel.destinations(52)  # while questions find their way
        line = "cannot write /etc/resolv.conf"
        raise PlatformError(line)

    with pytest.raises(PlatformError, match=r"resolv\.conf") as first:
        await cleanup("tun0", connect=kernel.connect, names=names)
    assert "rule 5270" in first.value.__notes__[0]
    assert [str(i) for i in kernel.items] == ["IPv4 rule 5270: lookup 52"]
