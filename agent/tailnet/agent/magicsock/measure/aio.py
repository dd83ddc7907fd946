"""The shell of the survey: resolves servers, sends requests, spreads the findings."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from tailnet.agent.addr import AddrPort
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import PeerId
from tailnet.agent.magicsock.endpoints import Tracker, collect
from tailnet.agent.magicsock.hub import Hub
from tailnet.agent.magicsock.plain import PING_INTERVAL
from tailnet.agent.magicsock.sockets.aio import Sockets, has_ipv6
from tailnet.agent.netcheck.measurement import AskOtherwise, CheckPortal
from tailnet.agent.netcheck.probes.aio import Probes
from tailnet.agent.netcheck.report import Report, facts, net_info
from tailnet.agent.netcheck.survey import Measured, Resolve, Survey, Wanted
from tailnet.agent.portmap.interface import NO_PORTMAP, Portmap
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.node import NetInfo
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.magicsock")

HEARD_LATELY = 8.0  # s since a frame of the home relay in which it counts as alive


class Measuring:
    """Finds out where we are and which relay is nearest; tells hub, relays and control.

    The owner calls :meth:`drain` after every input, and drains the hub after that.

    Attributes:
        endpoints: own addresses as control was told, with their kinds.
        net_info: latest findings, latencies included.
        report: the same in full.
        told: control hears of us; while it does not, a home that works is kept.
    """

    def __init__(  # noqa: PLR0913 - what it reads, and whom it tells
        self,
        hub: Hub,
        derp: DerpFleet,
        sockets: Sockets,
        probes: Probes,
        *,
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        send_udp: Callable[[AddrPort, bytes], int],
        pump: Callable[[], None],
        on_endpoints: Callable[[tuple[tuple[AddrPort, int], ...]], None],
        on_netinfo: Callable[[NetInfo], None],
    ) -> None:
        self._hub = hub
        self._derp = derp
        self._sockets = sockets
        self._probes = probes
        self._now = now
        self._send_udp = send_udp
        self._pump = pump
        self._on_endpoints = on_endpoints
        self._on_netinfo = on_netinfo
        self._survey = Survey(random_bytes=random_bytes, versions=self.versions)
        self._tracker = Tracker()
        self._portmap = NO_PORTMAP
        self._tasks = Tasks()
        self._asking: list[asyncio.Task[None]] = []  # for the running measurement
        self.told = True
        self.portals = True  # are looked for
        self.report: Report | None = None
        self.endpoints: tuple[tuple[AddrPort, int], ...] = ()
        self.net_info: NetInfo | None = None

    @property
    def home(self) -> int:
        """Our home region, 0 if none."""
        return self._survey.home

    def set_map(self, derp_map: DERPMap) -> None:
        """Other relays: measure them."""
        self._survey.set_map(derp_map, self._now())

    def refresh(self, *, full: bool = False) -> None:
        """Measure, unless that happens already; ``full``: all regions."""
        if not self._survey.busy:
            self._survey.measure(self._now(), full=full)

    def again(self) -> None:
        """Measure, once more if that happens already: what is told of it has changed."""
        self._survey.measure(self._now())

    def set_only_https(self, *, only: bool) -> None:
        """See :meth:`Survey.set_only_https`."""
        self._survey.set_only_https(only=only, now=self._now())

    def force_home(self, region: int | None) -> None:
        """See :attr:`Home.forced`."""
        self._survey.force_home(region)
        self.again()

    def pick_home(self) -> bool:
        """See :meth:`Home.pick`."""
        picked = self._survey.pick_home()
        self.again()
        return picked

    def link_changed(self) -> None:
        """Another network: forget and measure."""
        self._tracker.clear()
        self._survey.measure(self._now(), afresh=True)

    @property
    def portmap(self) -> Portmap:
        """What the gateway does for us, as last told."""
        return self._portmap

    def set_portmap(self, portmap: Portmap) -> None:
        """The gateway lets datagrams in elsewhere, or not any more, or was asked what it can."""
        if portmap != self._portmap:
            self._portmap = portmap
            self._survey.measure(self._now())

    def handle_response(self, data: bytes) -> None:
        """A STUN response, to us or to nobody."""
        try:
            self._survey.handle_response_untrusted(data, self._now())
        except BadPacket as error:
            log.debug("STUN: %s", error)

    def handle_timeout(self, *, needed: bool) -> None:
        """Run what is due; ``needed``: someone talks to a peer, or our home does not answer."""
        self._survey.handle_timeout(self._now(), needed=needed)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]."""
        return self._survey.next_timeout()

    def drain(self) -> bool:
        """Send and spread everything there is; false if that was nothing."""
        busy = False
        while (request := self._survey.poll_transmit()) is not None:
            busy = True
            if self._send_udp(*request):
                self._survey.send_failed(request[0], self._now())
        while (event := self._survey.poll_event()) is not None:
            busy = True
            match event:
                case Resolve():
                    self._begin(event)
                case Wanted():
                    task = self._tasks.start("netcheck", self._find_out(event))
                    self._asking.append(task)
                case Measured(report, started):
                    self._spread(report, started)
        return busy

    async def close(self) -> None:
        """Stop resolving."""
        await self._tasks.close()

    def versions(self) -> frozenset[int]:
        """IP versions worth trying: all, on a machine that seems to have no address."""
        return self._sockets.ip_versions() or frozenset({4, 6})

    def ask_hosts(self, peer: PeerId, addrs: Sequence[AddrPort]) -> None:
        """Ping addresses of a WireGuard-only peer by ICMP, outside the tunnel."""
        for addr in addrs:
            _ = self._tasks.start("host by ICMP", self._ask_host(peer, addr))

    async def _ask_host(self, peer: PeerId, addr: AddrPort) -> None:
        latency = await self._probes.host(addr.ip, PING_INTERVAL)
        if latency is not None:
            self._hub.note_latency(peer, addr, latency)

    def _begin(self, wanted: Resolve) -> None:
        """Also ask the home relay, by its connection, whether it is there."""
        for task in self._asking:
            task.cancel()
        self._asking.clear()
        home, now = self._survey.home, self._now()
        heard = self._derp.heard(home)
        if heard is not None and now - heard > HEARD_LATELY:
            self._derp.check(home)
        _ = self._tasks.start("stun servers", self._resolve(wanted))

    async def _resolve(self, wanted: Resolve) -> None:
        addresses = await self._probes.addresses(wanted.plan)
        self._survey.begin(wanted.turn, addresses, self._now())
        self._pump()

    async def _find_out(self, wanted: Wanted) -> None:
        turn, wish, derp_map = wanted
        match wish:
            case AskOtherwise():
                log.debug("no STUN server answers; asking relays by HTTPS and ICMP")
                await self._probes.otherwise(
                    derp_map,
                    wish,
                    lambda r, v, seconds, icmp: self._survey.handle_latency(
                        turn, r, v, seconds, icmp=icmp
                    ),
                )
                self._survey.handle_asked(turn, self._now())
            case CheckPortal():
                at = self._survey.home
                portal = await self._probes.portal(derp_map, at) if self.portals else None
                self._survey.handle_portal(turn, portal, self._now())
        self._pump()

    def _spread(self, report: Report, started: float) -> None:
        """Choose the home; tell peers and control what changed.

        Who listens for control may call back into magicsock, so it is told after the drain.
        """
        now = self._now()
        loop = asyncio.get_running_loop()
        before = self._survey.home
        heard = self._derp.heard(before)
        alive = heard is not None and heard >= min(started, now - HEARD_LATELY)
        home = self._survey.choose_home(report, now, alive=alive, told=self.told)
        if home != before:
            log.info("home relay is region %d", home) if home else log.info("no home relay")
            self._derp.set_home(home)
            self._hub.set_home(home, now)
        self._derp.dialer.ipv6_works = 6 in report.versions
        ports = self._sockets.ports
        found = collect(
            report,
            self._sockets.local_addresses(),
            ports,
            self._tracker,
            now,
            mapped=self._portmap.external,
            static=self._sockets.telling.static,
            fixed=self._sockets.fixed,
        )
        self._hub.set_own_endpoints(tuple(addr for addr, _ in found), now)
        if set(found) != set(self.endpoints):
            self.endpoints = found
            loop.call_soon(self._on_endpoints, found)
        if not home and not report.asked:
            return  # without relays there is nothing to say, and "no home" would undo the last one
        portal_before = self.report is not None and self.report.portal is True
        self.report = report
        old = self.net_info
        self.net_info = net_info(report, home, has_ipv6=has_ipv6(), portmap=self._portmap)
        changed = old is None or facts(old) != facts(self.net_info)
        if changed or portal_before != (report.portal is True):
            loop.call_soon(self._on_netinfo, self.net_info)
