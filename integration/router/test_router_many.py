"""Thousands of routes, and what is refused among them."""

import asyncio
import errno
import socket
from ipaddress import ip_network

import pytest
from integration.router.kernel import TUN, in_force
from tests.support.platform_contract import NODE
from tests.support.platform_netns import ip

from tailnet.platform.interface import Router, RouterConfig
from tailnet.platform.linux import netlink
from tailnet.platform.linux.routesock import BATCH, MANY, RouteSocket
from tailnet.platform.linux.rules import Request, Verb, tunnel_route

pytestmark = pytest.mark.netns


@pytest.mark.slow
async def test_many_routes_come_and_go(router: Router) -> None:
    """More than are read before every change; damage is found when the same is applied again."""
    many = frozenset(ip_network(f"100.65.{n >> 8}.{n & 255}/32") for n in range(600))
    await router.up()
    await router.apply(RouterConfig(NODE.local_addrs, many))
    fewer = RouterConfig(NODE.local_addrs, many - {ip_network("100.65.0.7/32")})
    await router.apply(fewer)
    assert in_force() == fewer
    ip("route", "flush", "table", "52")
    await router.apply(fewer)
    assert in_force() == fewer


@pytest.mark.slow
async def test_ten_thousand_routes_come_and_go(router: Router) -> None:
    """All of them, in both families, and one of them."""
    many = frozenset(
        ip_network(f"{'100.65.' if v == 4 else 'fd7a:115c:a1e0::'}{tail}")
        for n in range(5_000)
        for v, tail in ((4, f"{n >> 8}.{n & 255}/32"), (6, f"1:{n:x}/128"))
    )
    await router.up()
    everything = RouterConfig(NODE.local_addrs, many)
    await router.apply(everything)
    assert in_force() == everything
    fewer = RouterConfig(NODE.local_addrs, many - {ip_network("100.65.0.7/32")})
    await router.apply(fewer)
    assert in_force() == fewer
    await router.apply(NODE)
    assert in_force() == NODE


async def test_each_refused_route_is_told(router: Router) -> None:
    """In a batch, the others are done; the device named does not exist."""
    await router.up()
    async with netlink.open_netlink() as kernel:
        link = await kernel.link(TUN)
        assert link is not None
        nets = [ip_network(f"100.65.0.{n}/32") for n in range(200)]
        asked = [
            Request(Verb.ADD, tunnel_route(net, 52, link.index if n % 3 else 9999))
            for n, net in enumerate(nets)
        ]
        refused = await kernel.change_routes(asked)
        assert [request for request, _ in refused] == asked[::3]
        assert str(refused[0].error) == (
            "cannot add route 100.65.0.0/32 table 52: the interface is gone"
        )
        there = {route.dst for route in await kernel.routes(socket.AF_INET, 52)}
        assert there == {net for n, net in enumerate(nets) if n % 3}


@pytest.mark.parametrize("size", [BATCH, 2 * MANY], ids=["by the loop", "by a thread"])
async def test_lost_answers_are_made_up_for_by_reading(router: Router, size: int) -> None:
    """A receive buffer too small for the errors of one batch: the table says what was done."""
    await router.up()
    async with netlink.open_netlink() as kernel:
        link = await kernel.link(TUN)
        assert link is not None
    asked = [
        Request(Verb.ADD, tunnel_route(ip_network(f"100.65.{n >> 8}.{n & 255}/32"), 52, index))
        for n in range(size)
        for index in [link.index if n % 2 else 9999]
    ]
    with RouteSocket(receive_buffer=1) as sock:
        failed = await sock.change(asked)
        assert failed == [(request, errno.ENOBUFS) for request in asked[::2]]
        assert await sock.change(asked[1::2]) == []


async def test_who_is_cancelled_waits_for_the_thread(router: Router) -> None:
    """Else the socket would be closed under it; what was begun is done whole."""
    await router.up()
    async with netlink.open_netlink() as kernel:
        link = await kernel.link(TUN)
        assert link is not None
        nets = [ip_network(f"100.66.{n >> 8}.{n & 255}/32") for n in range(4 * MANY)]
        asked = [Request(Verb.ADD, tunnel_route(net, 52, link.index)) for net in nets]
        async with asyncio.TaskGroup() as group:
            change = group.create_task(kernel.change_routes(asked))
            await asyncio.sleep(0)
            change.cancel()
        assert change.cancelled()
        assert {route.dst for route in await kernel.routes(socket.AF_INET, 52)} >= set(nets)
