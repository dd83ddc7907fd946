"""Routes and firewall follow the last wish, refused ones are told, removed rules come back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from itertools import pairwise

import pytest
from tests.support import virtual

from tailnet.agent.backend.host.aio import HostNetwork, Keeper
from tailnet.agent.backend.host.repair import BURST
from tailnet.platform.fake import NO_RULES, FakeFirewall, FakeRouter
from tailnet.platform.interface import (
    ExitGuard,
    FirewallConfig,
    Guard,
    HostTakenError,
    PlatformError,
    RouterConfig,
)

ROUTES = RouterConfig(routes=frozenset({ip_network("100.64.0.2/32")}))
RULES = FirewallConfig(ports=frozenset({41641}))


class Bench:
    """A host of doubles."""

    def __init__(self) -> None:
        self.router, self.firewall = FakeRouter(), FakeFirewall()
        self.changed = asyncio.Event()
        self.router_at_last: list[RouterConfig] = []  # when the last route was about to go
        self.host = HostNetwork(
            self.router,
            self.firewall,
            now=lambda: 0.0,
            on_change=self.changed.set,
            before_none=self._before_none,
        )

    async def _before_none(self) -> None:
        await asyncio.sleep(0)
        self.router_at_last.append(self.router.config)

    async def settle(self) -> None:
        """Until the last wish was carried out, or refused."""
        async with asyncio.timeout(5):
            while not self.host.settled:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """One that runs."""
    bench = Bench()
    await bench.host.open()
    bench.host.start()
    yield bench
    await bench.host.close()


async def test_wishes_come_true_and_all_is_removed_in_the_end(bench: Bench) -> None:
    """Both kinds; the guard stays."""
    rules = FirewallConfig(guard=Guard())
    bench.host.want(ROUTES, rules)
    await bench.settle()
    assert (bench.router.config, bench.firewall.config) == (ROUTES, rules)
    await bench.host.close()
    assert bench.router.config == RouterConfig()
    assert bench.firewall.config == FirewallConfig(mode=NO_RULES.mode, guard=Guard())


async def test_whoever_waits_goes_on_when_the_last_wish_is_in_force(bench: Bench) -> None:
    """Not after the one before it; and a refusal is an end, too."""
    await bench.host.done()  # nothing is wished
    bench.host.want(ROUTES, RULES)
    await asyncio.sleep(0)  # its turn begins
    wider = replace(ROUTES, routes=ROUTES.routes | {ip_network("100.64.0.3/32")})
    bench.host.want(wider, NO_RULES)
    await bench.host.done()
    assert (bench.router.config, bench.firewall.config) == (wider, NO_RULES)
    bench.router.fail_next = PlatformError("no")
    bench.host.want(ROUTES, NO_RULES)
    await bench.host.done()
    assert bench.host.routes.problem == "no"


async def test_what_another_daemon_has_is_left_alone() -> None:
    """It is refused at once, and its end clears nothing away."""
    bench = Bench()
    bench.router.fail_next = HostTakenError("another tailnetd")
    with pytest.raises(HostTakenError):
        await bench.host.open()
    bench.router.is_up = True  # the other's
    await bench.host.close()
    assert bench.router.is_up


async def test_what_stops_leaks_stays_when_the_end_is_nobodys_wish(bench: Bench) -> None:
    """Routes and rules, until the next start or somebody cleans up."""
    bench.host.want(replace(ROUTES, leak_guard=True), replace(RULES, exit_guard=ExitGuard()))
    await bench.settle()
    await bench.host.close(leak_guard=True)
    assert bench.router.config == RouterConfig(leak_guard=True)
    assert bench.firewall.config == FirewallConfig(mode=NO_RULES.mode, exit_guard=ExitGuard())


async def test_the_guard_of_an_exit_node_follows_links_and_rules_of_the_host(bench: Bench) -> None:
    """Which it names; other rules do not, and stay."""
    bench.host.want(ROUTES, RULES)
    await bench.settle()
    bench.host.links_changed()
    bench.host.want(ROUTES, guarded := replace(RULES, exit_guard=ExitGuard(lan=True)))
    await bench.settle()
    assert bench.firewall.history == [RULES, guarded]
    for follow in (bench.host.links_changed, bench.host.repair):
        bench.firewall.history.clear()
        bench.changed.clear()
        follow()
        async with asyncio.timeout(5):
            await bench.changed.wait()
        assert bench.firewall.history == [guarded]


async def test_a_refused_firewall_leaves_the_routes_alone_and_is_told(bench: Bench) -> None:
    """A kernel without nftables still routes."""
    bench.firewall.fail_next = PlatformError("no nftables here")
    bench.host.want(ROUTES, RULES)
    await bench.settle()
    assert bench.host.rules.problem == "no nftables here"
    assert bench.host.routes.problem == ""
    assert bench.router.config == ROUTES
    bench.host.rules.again()
    async with asyncio.timeout(5):
        while bench.host.rules.problem:
            bench.changed.clear()
            await bench.changed.wait()
    assert bench.firewall.config == RULES


async def test_rules_that_others_remove_come_back(bench: Bench) -> None:
    """``nft flush ruleset``."""
    bench.host.want(ROUTES, RULES)
    await bench.settle()
    bench.changed.clear()
    bench.firewall.disturb()
    async with asyncio.timeout(5):
        await bench.changed.wait()
    assert bench.firewall.config == RULES
    assert bench.firewall.history == [RULES, RULES]


async def test_two_programs_that_undo_each_other_take_turns_and_people_are_told(
    bench: Bench,
) -> None:
    """Ten repairs at once, no more; nothing is told before."""
    bench.host.want(ROUTES, RULES)
    await bench.settle()
    for done in range(2, BURST + 2):
        assert bench.host.routes.problem == ""
        bench.host.routes.repair()
        bench.host.routes.repair()  # before the first is done
        async with asyncio.timeout(5):
            while len(bench.router.history) < done:
                bench.changed.clear()
                await bench.changed.wait()
    bench.host.routes.repair()
    assert "another program keeps removing" in bench.host.routes.problem
    assert bench.host.rules.problem == ""
    assert len(bench.router.history) == BURST + 1


def test_a_wish_that_stays_refused_is_tried_more_and_more_seldom() -> None:
    """And the next one at once."""
    tries: list[float] = []

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        enough = asyncio.Event()

        async def refuse(config: RouterConfig) -> None:
            del config
            tries.append(loop.time())
            if len(tries) in {8, 9}:
                enough.set()
            line = "no"
            raise PlatformError(line)

        keeper = Keeper("routes", refuse, RouterConfig(), now=loop.time, on_change=lambda: None)
        task = asyncio.create_task(keeper.run())
        for wish in (ROUTES, RouterConfig()):
            keeper.want(wish)
            await enough.wait()
            enough.clear()
        task.cancel()

    virtual.run(scene())
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits == pytest.approx([5, 10, 20, 40, 80, 160, 160, 0])


async def test_names_come_before_the_last_route_goes(bench: Bench) -> None:
    """And who has changed his mind meanwhile keeps his routes."""
    bench.host.want(ROUTES, RULES)
    await bench.settle()
    bench.host.want(RouterConfig(), FirewallConfig())
    await bench.settle()
    assert bench.router_at_last[-1] == ROUTES
    assert bench.router.config == RouterConfig()
    bench.host.want(ROUTES, RULES)
    await bench.settle()
    told = len(bench.router.history)
    bench.host.want(RouterConfig(), FirewallConfig())
    while bench.router_at_last[-1:] != [ROUTES] or len(bench.router_at_last) < 2:
        await asyncio.sleep(0)
        if bench.host.routes.wanted != ROUTES:
            bench.host.want(ROUTES, RULES)
    await bench.settle()
    assert RouterConfig() not in bench.router.history[told:]
