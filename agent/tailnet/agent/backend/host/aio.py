"""Routes and firewall, brought to the last wish and kept there."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from tailnet.agent.backend.host.repair import RepairLimit
from tailnet.agent.tasks import Tasks
from tailnet.platform.interface import (
    Firewall,
    FirewallConfig,
    PlatformError,
    Router,
    RouterConfig,
)

log = logging.getLogger("tailnet.host")

RETRY = 5.0  # seconds until a refused configuration is tried again

Config = TypeVar("Config")


class Keeper(Generic[Config]):
    """One thing of the host, and what it should be like.

    Attributes:
        problem: why the last wish was refused; empty if it was not.
    """

    def __init__(
        self,
        what: str,
        apply: Callable[[Config], Awaitable[None]],
        first: Config,
        on_change: Callable[[], None],
    ) -> None:
        self._what = what
        self._apply = apply
        self._wanted = first
        self._applied: Config | None = None
        self._due = asyncio.Event()
        self._on_change = on_change
        self.problem = ""

    @property
    def settled(self) -> bool:
        """The last wish was carried out, or refused."""
        return self._applied == self._wanted

    def want(self, config: Config) -> None:
        """Make it so, soon."""
        if config != self._wanted or self._applied is None:
            self._wanted = config
            self._due.set()

    def again(self) -> None:
        """Make it so once more: somebody may have undone it."""
        self._due.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._due.wait()
            self._due.clear()
            wanted, problem = self._wanted, ""
            try:
                await self._apply(wanted)
            except PlatformError as error:
                problem = str(error)
                if problem != self.problem:
                    log.warning("%s: %s", self._what, problem)
                asyncio.get_running_loop().call_later(RETRY, self._due.set)
            self._applied, self.problem = wanted, problem
            self._on_change()


class HostNetwork:
    """Routes and firewall of one tunnel device."""

    def __init__(
        self,
        router: Router,
        firewall: Firewall,
        *,
        now: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        """``on_change``: a wish was carried out or refused."""
        self._router, self._firewall = router, firewall
        self._now = now
        self._tasks = Tasks()
        self._limit = RepairLimit()
        self.routes = Keeper("routes", router.apply, RouterConfig(), on_change)
        self.rules = Keeper("firewall", firewall.apply, FirewallConfig(), on_change)

    async def open(self) -> None:
        """Clear what a crash left.

        Raises:
            PlatformError: the system refuses.
        """
        await self._router.up()

    def start(self) -> None:
        """Begin to carry out wishes."""
        for keeper in (self.rules, self.routes):
            _ = self._tasks.start("host", keeper.run())
        _ = self._tasks.start("firewall watch", self._watch())

    def want(self, routes: RouterConfig, rules: FirewallConfig) -> None:
        """Make it so, soon; rules first, so that nothing passes before they stand."""
        self.rules.want(rules)
        self.routes.want(routes)

    @property
    def settled(self) -> bool:
        """What was wished last was carried out, or refused."""
        return self.routes.settled and self.rules.settled

    async def close(self) -> None:
        """Remove what is ours: routes first, so that nothing is sent into a dead device."""
        await self._tasks.close()
        for part in (self._router, self._firewall):
            try:
                await part.down()
            except PlatformError as error:
                log.warning("clean-up: %s", error)

    async def _watch(self) -> None:
        """Put rules back that others remove, as ``nft flush ruleset`` in a script does."""
        async for _ in self._firewall.disturbances():
            try:
                intact = await self._firewall.intact()
            except PlatformError as error:
                log.debug("firewall watch: %s", error)
                continue
            if not intact:
                log.warning("firewall: somebody removed our rules; putting them back")
                await asyncio.sleep(self._limit.take(self._now()))
                self.rules.again()
