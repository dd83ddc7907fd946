"""``Naming``: from the network map to our resolver and the host's configuration.

::

    network map, prefs ──► wanted ──► compiled ──► our resolver: names, routes
                                  ▲            └─► the host, if that is another than before
             what the host had before us

Names of nodes follow the plan, one node at a time.  The host follows in a task of its own: asking
and telling it takes time, and only the newest wish counts.  One that refuses is told again later.

Nobody is sent where there is no answer: the host is told to ask us once routes lead to us, and our
resolver goes on until it no longer does; so do the routes (:meth:`Naming.let_go`).
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection

from tailnet.agent import clock
from tailnet.agent.addr import SERVICE_V4, SERVICE_V6, IPAddress
from tailnet.agent.backend.peerapi import peer_api
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.dns.compile import BaseUnreadable, Compiled, Host, compile_dns
from tailnet.agent.dns.names import LOCALHOST, in_search_order, parse_name_untrusted, within
from tailnet.agent.dns.own import parse_own
from tailnet.agent.dns.resolver.aio import MagicDns
from tailnet.agent.dns.wanted import NOTHING, ExitNode, Wanted, wanted_dns
from tailnet.agent.errors import BadPacket
from tailnet.agent.slices import Steps
from tailnet.agent.tailcfg.node import NodeID
from tailnet.agent.tasks import Tasks
from tailnet.platform.interface import NO_DNS, DnsConfig, DnsConfigurator, PlatformError

log = logging.getLogger("tailnet.naming")

LET_GO = 2.0  # seconds that routes wait for the host to be told
LAST_ANSWERS = 0.2  # seconds for programs that have just read whom to ask
RETRY = 1.0  # seconds after a refusal; doubled each time
MAX_RETRY = 300.0  # seconds


class Naming:
    """Belongs to one ``Node``.

    Args:
        resolver: ours.

    Attributes:
        on_change: called when a problem comes or goes.
        wanted: what the tailnet wants now.
        compiled: what resolver and host were told last.
        unreadable: why the host's own configuration, which is needed, cannot be read.
        refused: why the host does not do what it was told.
        trouble: what is wrong with the host's configuration without us.
        overwritten: another program undoes what we do to it.
    """

    def __init__(self, resolver: MagicDns) -> None:
        self.resolver = resolver
        self._configurator: DnsConfigurator | None = None
        self._basis: tuple[object, ...] | None = None
        self._netmap: NetworkMap | None = None
        self._news = asyncio.Event()
        self._tasks = Tasks()
        self._applied: DnsConfig | None = None
        self._telling = asyncio.Lock()
        self._free = asyncio.Event()  # the host does not ask us
        self._free.set()
        self._freed_at = float("-inf")
        self._last_answers: asyncio.TimerHandle | None = None
        self._routed = True
        self.on_change: Callable[[], None] = lambda: None
        self.wanted: Wanted = NOTHING
        self.compiled = Compiled({}, NO_DNS)
        self.unreadable = self.refused = self.trouble = self.overwritten = ""

    async def open(self, configurator: DnsConfigurator) -> None:
        """Take back what a dead daemon left; the host can be told from now on."""
        self._configurator = configurator
        try:
            await configurator.up()
        except PlatformError as error:
            self.refused = str(error)
        self._news.set()
        _ = self._tasks.start("names", self._keep_told(configurator))
        _ = self._tasks.start("names of the host", self._listen(configurator))

    async def close(self) -> None:
        """The host resolves names as before us."""
        with contextlib.suppress(TimeoutError):  # a program of the host is not stopped half-way
            async with asyncio.timeout(LET_GO):
                await self._telling.acquire()
        await self._tasks.close()
        if self._last_answers is not None:
            self._last_answers.cancel()
        if self._configurator is not None:
            try:
                await self._configurator.down()
            except PlatformError as error:
                log.warning("clean-up of DNS: %s", error)

    # --- wishes

    def apply(self, netmap: NetworkMap | None, changed: Collection[NodeID] | None) -> Steps[None]:
        """Names of nodes, in slices; ``changed``: only these differ from those of the last call."""
        if netmap is None:
            self.resolver.forget()
        else:
            yield from self.resolver.set_nodes_slices(netmap.self_node, netmap.peers, changed)

    def follow(
        self, prefs: Prefs, netmap: NetworkMap | None, exit_node: NodeID | None = None
    ) -> None:
        """What the tailnet wants; ``netmap`` is ``None`` where there is to be no network.

        ``exit_node``: the one in use, which the plan chose.
        """
        if netmap is None:
            self._end()
            return
        self._netmap, through = netmap, exit_node_in_use(netmap, exit_node)
        basis = (netmap.dns, netmap.self_node, prefs.corp_dns, prefs.dns_records, through)
        if basis == self._basis:
            return
        self._basis = basis
        wanted = wanted_dns(
            netmap.dns,
            netmap.self_node,
            accept=prefs.corp_dns,
            exit_node=through,
            local=parse_own(prefs.dns_records or ()),
        )
        if wanted != self.wanted:
            self.wanted = wanted
            self._news.set()

    def set_routed(self, *, routed: bool) -> None:
        """Whether the routes are in force, without which nobody reaches our resolver."""
        if routed and not self._routed:
            self._news.set()
        self._routed = routed

    async def let_go(self) -> None:
        """Until the host asks us no more, if that is the wish; but not for long."""
        if self.wanted is not NOTHING:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LET_GO):
                await self._free.wait()
        await asyncio.sleep(max(0.0, self._freed_at + LAST_ANSWERS - clock.now()))

    async def before_us(self) -> tuple[str, DnsConfig | None]:
        """Who decides over the host's names, and how it resolved them; ``None``: nobody knows.

        Raises:
            PlatformError: that cannot be read.
        """
        if self._configurator is None:
            return "", None
        return self._configurator.mode, await self._configurator.base()

    async def programs_ask(self) -> tuple[IPAddress, ...]:
        """Whom programs of this host ask besides us.

        Raises:
            PlatformError: that cannot be read.
        """
        return () if self._configurator is None else await self._configurator.programs_ask()

    async def addresses(self, host: str) -> tuple[IPAddress, ...] | None:
        """Of a name, as a program finds that asks us, with search domains.

        ``None``: it is for the system to resolve.
        """
        try:
            name = parse_name_untrusted(host)
        except BadPacket:
            return None
        if within(name, LOCALHOST):  # RFC 6761 section 6.3
            return None
        found = None
        for each in in_search_order(name, () if host.endswith(".") else self.compiled.host.search):
            known = await self.resolver.addresses(each)
            if known:
                return known
            found = known if each == name else found
        return found

    def recompile(self) -> None:
        """What the host had before us may be different now, or it has forgotten us."""
        self._applied = None
        self._news.set()

    def _end(self) -> None:
        if self._netmap is None:
            return
        self._basis = self._netmap = None
        self.wanted = NOTHING
        self._news.set()

    async def _listen(self, configurator: DnsConfigurator) -> None:
        async for event in configurator.events():
            if event.reason:
                log.info("names: %s", event.reason)
            if event.again:
                self.recompile()
            if (event.trouble, event.overwritten) != (self.trouble, self.overwritten):
                self.trouble, self.overwritten = event.trouble, event.overwritten
                self.on_change()

    # --- consequences

    async def _keep_told(self, configurator: DnsConfigurator) -> None:
        delay = RETRY
        while True:
            if self.refused or self.unreadable:
                try:
                    async with asyncio.timeout(delay):
                        await self._news.wait()
                except TimeoutError:
                    delay = min(2 * delay, MAX_RETRY)
            else:
                delay = RETRY
                await self._news.wait()
            self._news.clear()
            async with self._telling:
                await self._tell(configurator)

    async def _tell(self, configurator: DnsConfigurator) -> None:
        wanted, unreadable, refused = self.wanted, "", ""
        try:
            base, why = await configurator.base(), ""
        except PlatformError as error:
            base, why = None, str(error)
        try:
            compiled = compile_dns(wanted, Host(configurator.split, base, why))
        except BaseUnreadable as error:
            unreadable = str(error)
            compiled = Compiled(wanted.routes, self.compiled.host)
        leaves = _asks_us(self._applied) and not _asks_us(compiled.host)
        if not leaves:
            self._configure(wanted, compiled)
        waits = _asks_us(compiled.host) and not self._routed
        if not unreadable and not waits and compiled.host != self._applied:
            refused = await self._apply(configurator, compiled.host)
        if leaves:
            loop = asyncio.get_running_loop()
            self._last_answers = loop.call_later(LAST_ANSWERS, self._configure, wanted, compiled)
        self.compiled = compiled
        self._problems(unreadable, refused)

    def _configure(self, wanted: Wanted, compiled: Compiled) -> None:
        if wanted is self.wanted:  # else there is a newer one, whose turn comes
            self.resolver.set_own(wanted.own)
            self.resolver.configure(wanted.records, compiled.routes, wanted.suffix)

    async def _apply(self, configurator: DnsConfigurator, config: DnsConfig) -> str:
        """Tell the host; why it refused."""
        if _asks_us(config):
            self._free.clear()
        try:
            await configurator.apply(config)
        except PlatformError as error:
            self._applied = None
            return str(error)
        self._applied = config
        if not _asks_us(config) and not self._free.is_set():
            self._free.set()
            self._freed_at = clock.now()
        log.info("names: this host %s", config)
        return ""

    def _problems(self, unreadable: str, refused: str) -> None:
        if (unreadable, refused) != (self.unreadable, self.refused):
            self.unreadable, self.refused = unreadable, refused
            self.on_change()


def _asks_us(config: DnsConfig | None) -> bool:
    return config is not None and any(ip in (SERVICE_V4, SERVICE_V6) for ip in config.nameservers)


def exit_node_in_use(netmap: NetworkMap, number: NodeID | None) -> ExitNode | None:
    """The exit node, and where it answers for names; ``None``: there is none, or not any more.

    Source: tailscale ipn/ipnlocal/node_backend.go, exitNodeCanProxyDNS.
    """
    node = None if number is None else netmap.peers.get(number)
    if node is None:
        return None
    at = peer_api(node, netmap.self_node)
    return ExitNode(node, f"http://{at}/dns-query") if at is not None else ExitNode(node)
