"""Routes and firewall, brought to the last wish and kept there."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from tailnet.agent.backend.host.repair import EVERY, RepairLimit
from tailnet.agent.tasks import Tasks
from tailnet.platform.interface import (
    Firewall,
    FirewallConfig,
    HostTakenError,
    PlatformError,
    Router,
    RouterConfig,
)

log = logging.getLogger("tailnet.host")

RETRY = 5.0  # seconds until a refused configuration is tried again; then twice as long each time
LONGEST_RETRY = 160.0  # seconds
DOWN_ATTEMPTS = 2  # nobody comes after us who would try again

Config = TypeVar("Config")


class Keeper(Generic[Config]):
    """One thing of the host, and what it should be like."""

    def __init__(
        self,
        what: str,
        apply: Callable[[Config], Awaitable[None]],
        first: Config,
        *,
        now: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._what = what
        self._apply = apply
        self._wanted = first
        self._applied: Config | None = None
        self._due = asyncio.Event()
        self._done = asyncio.Event()
        self._done.set()  # nothing is wished yet
        self._now = now
        self._on_change = on_change
        self._refused = ""
        self._limit = RepairLimit()
        self._repair: asyncio.TimerHandle | None = None
        self._peace: asyncio.TimerHandle | None = None
        self._wait = RETRY  # after the next refusal
        self._retry: asyncio.TimerHandle | None = None

    @property
    def settled(self) -> bool:
        """The last wish was carried out, or refused."""
        return self._applied == self._wanted

    @property
    def problem(self) -> str:
        """Why the last wish was refused, or who undoes it; empty if all is well."""
        if self._refused or not self._limit.contested(self._now()):
            return self._refused
        return (
            f"another program keeps removing this tunnel's {self._what}; "
            f"what is missing is put back every {EVERY:.0f} s"
        )

    @property
    def wanted(self) -> Config:
        """The last wish."""
        return self._wanted

    def want(self, config: Config) -> None:
        """Make it so, soon."""
        if config != self._wanted or self._applied is None:
            self._wanted = config
            self._wait = RETRY
            self._done.clear()
            self._due.set()

    async def done(self) -> None:
        """Until the last wish was carried out, or refused."""
        await self._done.wait()

    def again(self) -> None:
        """Make it so once more: what it depends on is another."""
        if self._applied is not None:
            self._due.set()

    def repair(self) -> None:
        """Somebody undid it: put it back, at once unless that happens all the time."""
        if self._repair is not None or self._applied is None:
            return
        loop, delay = asyncio.get_running_loop(), self._limit.take(self._now())
        self._repair = loop.call_later(delay, self._repair_due)
        if self._limit.contested(self._now()):
            if self._peace is not None:
                self._peace.cancel()
            self._peace = loop.call_later(self._limit.peace_at - self._now(), self._on_change)

    def _repair_due(self) -> None:
        self._repair = None
        self._due.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            wanted, refused = self._wanted, ""
            try:
                await self._apply(wanted)
            except PlatformError as error:
                refused = str(error)
                if refused != self._refused:
                    log.warning("%s: %s", self._what, refused)
                self._retry = asyncio.get_running_loop().call_later(self._wait, self._due.set)
                self._wait = min(2 * self._wait, LONGEST_RETRY)
            else:
                self._wait = RETRY
            self._applied, self._refused = wanted, refused
            if self.settled:
                self._done.set()
            self._on_change()

    def close(self) -> None:
        """No timer is left."""
        for timer in (self._repair, self._peace, self._retry):
            if timer is not None:
                timer.cancel()


class HostNetwork:
    """Routes and firewall of one tunnel device."""

    def __init__(
        self,
        router: Router,
        firewall: Firewall,
        *,
        now: Callable[[], float],
        on_change: Callable[[], None],
        before_none: Callable[[], Awaitable[None]],
    ) -> None:
        """``on_change``: a wish was carried out or refused, or others began or ended to undo it.

        ``before_none``: comes before the last route goes.
        """
        self._router, self._firewall = router, firewall
        self._taken = False  # by another daemon, whose everything is
        self._before_none = before_none
        self._on_change = on_change
        self._tasks = Tasks()
        self.routes = Keeper(
            "addresses, routes or rules", self._route, RouterConfig(), now=now, on_change=on_change
        )
        self.rules = Keeper(
            "firewall rules", firewall.apply, FirewallConfig(), now=now, on_change=on_change
        )

    async def open(self) -> None:
        """Clear what a crash left.

        Raises:
            PlatformError: the system refuses.
        """
        try:
            await self._router.up()
        except HostTakenError:
            self._taken = True
            raise

    def start(self) -> None:
        """Begin to carry out wishes."""
        for keeper in (self.rules, self.routes):
            _ = self._tasks.start("host", keeper.run())
        _ = self._tasks.start("firewall watch", self._watch())

    def want(self, routes: RouterConfig, rules: FirewallConfig) -> None:
        """Make it so, soon; rules first, so that nothing passes before they stand."""
        self.rules.want(rules)
        self.routes.want(routes)

    def links_changed(self) -> None:
        """Links, addresses or rules of the host are others: around which we lead, we do anew."""
        if self.routes.wanted.lan_direct:
            self.routes.again()
        if self.rules.wanted.exit_guard is not None:
            self.rules.again()

    def repair(self) -> None:
        """Somebody removed addresses, routes or rules of ours, or has other rules of his own."""
        self.routes.repair()
        if self.rules.wanted.exit_guard is not None:
            self.rules.again()

    @property
    def settled(self) -> bool:
        """What was wished last was carried out, or refused."""
        return self.routes.settled and self.rules.settled

    async def done(self) -> None:
        """Until that is so."""
        await self.rules.done()
        await self.routes.done()

    @property
    def obstacles(self) -> tuple[str, str]:
        """What of others' stands in the way of routes and of rules; empty where nothing does."""
        return self._router.obstacle, self._firewall.obstacle

    async def close(self, *, leak_guard: bool = False) -> None:
        """Remove what is ours: routes first, so that nothing is sent into a dead device.

        ``leak_guard``: what stops leaks while an exit node is wanted stays.
        """
        await self._tasks.close()
        self.routes.close()
        self.rules.close()
        for part in () if self._taken else (self._router, self._firewall):
            for attempt in range(DOWN_ATTEMPTS):
                try:
                    await part.down(leak_guard=leak_guard)
                    break
                except PlatformError as error:
                    last = attempt + 1 == DOWN_ATTEMPTS
                    log.log(logging.WARNING if last else logging.INFO, "clean-up: %s", error)

    async def _route(self, config: RouterConfig) -> None:
        if not config.routes:
            await self._before_none()
            if self.routes.wanted != config:
                return  # somebody has changed his mind, and it is that wish's turn
        await self._router.apply(config)

    async def _watch(self) -> None:
        """Put rules back that others remove, as ``nft flush ruleset`` in a script does."""
        async for _ in self._firewall.disturbances():
            before = self._firewall.obstacle
            try:
                intact = await self._firewall.intact()
            except PlatformError as error:
                log.debug("firewall watch: %s", error)
                continue
            if self._firewall.obstacle != before:
                self._on_change()
            if not intact:
                log.warning("firewall: somebody removed our rules; putting them back")
                self.rules.repair()
