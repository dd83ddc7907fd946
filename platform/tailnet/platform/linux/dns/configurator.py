"""The host's DNS behind one port: the choice, whoever was chosen, and the watch over both."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Protocol

from tailnet.platform.interface import NO_DNS, DnsConfig, DnsEvent, PlatformError
from tailnet.platform.linux.dns.caretaker import Caretaker
from tailnet.platform.linux.dns.choose import Choice, Mode, choose
from tailnet.platform.linux.dns.facts import observe
from tailnet.platform.linux.dns.fight import Fight
from tailnet.platform.linux.dns.programs import DebianResolvconf, Openresolv
from tailnet.platform.linux.dns.replaced import ResolvConfFile
from tailnet.platform.linux.dns.resolved import Resolved
from tailnet.platform.linux.dns.restore import cleanup
from tailnet.platform.linux.dns.watch import watch_bus, watch_file

log = logging.getLogger("tailnet.platform")

_SETTLE = 0.1  # seconds without a hint: files are written in steps
_STEPS = 10  # of these at most, where hints do not end
_OVERWRITTEN = (
    "another program keeps replacing /etc/resolv.conf, so names of the tailnet do not resolve;"
    " make it stop, or use systemd-resolved"
)
_ANOTHER = (
    "another tailnetd configures the names of this host; stop it, or here:"
    " tnet set --accept-dns=false"
)
_SOON, _LONGEST = 1.0, 300.0  # seconds until another look where one failed; doubled each time
_GONE = 5.0  # seconds that systemd-resolved may take to restart
_DOUBT = 1.0  # seconds until a second look: openresolv empties the file before it writes it


class Adapter(Protocol):
    """Whoever is told.  As ``DnsConfigurator``, without choice and watch."""

    @property
    def split(self) -> bool: ...  # noqa: D102

    async def base(self) -> DnsConfig | None: ...  # noqa: D102

    async def apply(self, config: DnsConfig) -> None: ...  # noqa: D102

    async def down(self) -> None: ...  # noqa: D102


class Direct:
    """Nobody is told: the file is replaced."""

    split = False

    def __init__(self, root: Path) -> None:
        self.file = ResolvConfFile(root)
        self.written = ""

    async def base(self) -> DnsConfig | None:
        """What the file said before us, or says since somebody else wrote it."""
        return self.file.base()

    async def apply(self, config: DnsConfig) -> None:
        """See ``DnsConfigurator``."""
        if config.match:
            line = "/etc/resolv.conf cannot send only some names to a resolver"
            raise PlatformError(line)
        self.written = ""  # what happens meanwhile is our doing
        self.written = self.file.write(config)

    async def down(self) -> None:
        """See ``DnsConfigurator``."""
        self.written = ""
        self.file.restore()


class LinuxDns:
    """A ``DnsConfigurator`` of the host that the calling thread sees.

    Args:
        tun_name: the tunnel's device.
        root: directory that has ``etc``.
        caretaker: restores what survives this process, if it dies.
        now: seconds, monotonic.
    """

    def __init__(
        self,
        tun_name: str,
        *,
        root: Path = Path("/"),
        caretaker: Caretaker | None = None,
        now: Callable[[], float] = time.monotonic,  # noqa: TID251 - this room has its own clocks
    ) -> None:
        self._tun = tun_name
        self._root = root
        self._caretaker = caretaker
        self._now = now
        self._adapter: Adapter = Direct(root)
        self._choice = Choice(Mode.DIRECT, "nobody looked yet")
        self._looked = False
        self._one = asyncio.Lock()  # one thing is done to the host at a time
        self._patience = _SOON

    @property
    def mode(self) -> str:
        """See ``DnsConfigurator``."""
        return self._choice.mode.value

    @property
    def split(self) -> bool:
        """See ``DnsConfigurator``."""
        return self._adapter.split

    async def up(self) -> None:
        """See ``DnsConfigurator``.  What fails is tried again before anything else is done."""
        if self._caretaker is not None:
            await self._caretaker.begin()
        async with self._one:
            self._looked = False
            await self._look()

    async def _look(self) -> None:
        if self._looked:
            return
        if self._is_ours():
            for line in await cleanup(self._root):
                log.info("DNS: %s", line)
        choice = choose(await observe(self._root))
        if choice.mode is not Mode.RESOLVED and not self._is_ours():
            raise PlatformError(_ANOTHER)
        self._choose(choice)
        await self._adapter.down()
        self._looked = True

    def _is_ours(self) -> bool:
        """No other daemon of this host configures what there is one of."""
        return self._caretaker is None or self._caretaker.try_begin()

    async def base(self) -> DnsConfig | None:
        """See ``DnsConfigurator``."""
        async with self._one:
            await self._look()
            return await self._adapter.base()

    async def programs_ask(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Those of ``base``; else who stands in the file: systemd-resolved's own address."""
        base = await self.base()
        return (base or ResolvConfFile(self._root).base()).nameservers

    async def apply(self, config: DnsConfig) -> None:
        """See ``DnsConfigurator``."""
        async with self._one:
            if config == NO_DNS and not self._looked and not self._is_ours():
                return
            await self._look()
            outlives_us = self._choice.mode is not Mode.RESOLVED
            if self._caretaker is not None and outlives_us and config != NO_DNS:
                await self._caretaker.hire()
            await self._adapter.apply(config)

    async def down(self) -> None:
        """See ``DnsConfigurator``."""
        async with self._one:
            if self._looked:
                await self._adapter.down()
            elif self._is_ours():
                await cleanup(self._root)
        if self._caretaker is not None:
            await self._caretaker.dismiss()
            self._caretaker.end()

    async def events(self) -> AsyncIterator[DnsEvent]:
        """See ``DnsConfigurator``."""
        came, changed = asyncio.Event(), asyncio.Event()
        changed.set()  # whatever happened before the watch began
        file = ResolvConfFile(self._root).path
        watches = [
            asyncio.create_task(watch_file(file, changed)),  # noqa: TID251
            asyncio.create_task(watch_bus(came, changed)),  # noqa: TID251
        ]
        try:
            async with aclosing(self._tell(came, changed)) as told:
                async for event in told:
                    yield event
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _tell(self, came: asyncio.Event, changed: asyncio.Event) -> AsyncGenerator[DnsEvent]:
        fight, told = Fight(), DnsEvent(again=False, trouble=self._choice.trouble)
        if told.trouble:
            yield told
        while True:
            await _wait(changed, fight.deadline, self._now)
            changed.clear()
            again, reason = came.is_set() and self._choice.mode is Mode.RESOLVED, ""
            came.clear()
            if again:
                reason = "systemd-resolved started anew"
            if (switched := await self._look_again(changed)) is not None:
                again, reason = True, switched
            if self._is_trampled():
                fight, repair = fight.trampled(self._now())
                again, reason = again or repair, reason or "another program wrote /etc/resolv.conf"
            else:
                fight = fight.at_peace(self._now())
            event = DnsEvent(
                again=again,
                trouble=self._choice.trouble,
                overwritten=_OVERWRITTEN if fight.lost else "",
                reason=reason,
            )
            news = (event.trouble, event.overwritten) != (told.trouble, told.overwritten)
            if again or news:
                told = event
                yield event

    def _is_trampled(self) -> bool:
        adapter = self._adapter
        if not isinstance(adapter, Direct) or not adapter.written:
            return False
        return not adapter.file.is_as_written(adapter.written)

    async def _look_again(self, changed: asyncio.Event) -> str | None:
        """Choose again; why, if another was chosen.

        Never on what is seen once: a service that restarts is away for a moment only, and a file
        that is being written says nothing of whose it is.  What we do ourselves is not seen at all.
        """
        try:
            switched = await self._switches(act=False)
            if switched:
                await asyncio.sleep(_GONE if self._choice.mode is Mode.RESOLVED else _DOUBT)
                switched = await self._switches(act=True)
        except PlatformError as error:
            log.warning("DNS: %s", error)
            asyncio.get_running_loop().call_later(self._patience, changed.set)
            self._patience = min(2 * self._patience, _LONGEST)
            return None
        self._patience = _SOON
        return f"from now on by {self._choice.mode.value}: {self._choice.why}" if switched else None

    async def _switches(self, *, act: bool) -> bool:
        """Whether another is to be chosen; if so and ``act``, it is."""
        async with self._one:
            choice = choose(await observe(self._root))
            if choice.mode is self._choice.mode:
                self._choice = choice
                return False
            if act and self._looked:
                await self._adapter.down()
                self._choose(choice)
            return self._looked

    def _choose(self, choice: Choice) -> None:
        log.info("DNS of this host: %s (%s)", choice.mode.value, choice.why)
        self._choice = choice
        match choice.mode:
            case Mode.RESOLVED:
                self._adapter = Resolved(self._tun)
            case Mode.DEBIAN:
                self._adapter = DebianResolvconf(self._root)
            case Mode.OPENRESOLV:
                self._adapter = Openresolv()
            case Mode.DIRECT:
                self._adapter = Direct(self._root)


async def _wait(changed: asyncio.Event, deadline: float | None, now: Callable[[], float]) -> None:
    """Until a hint, and until there are no more, or the deadline."""
    try:
        async with asyncio.timeout(None if deadline is None else max(0.0, deadline - now())):
            await changed.wait()
    except TimeoutError:
        return
    for _ in range(_STEPS):
        changed.clear()
        await asyncio.sleep(_SETTLE)
        if not changed.is_set():
            return
