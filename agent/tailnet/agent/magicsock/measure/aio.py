"""The shell of the survey: resolves servers, sends requests, spreads the findings."""

import asyncio
import logging
from collections.abc import Callable

from tailnet.agent.addr import AddrPort
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.errors import BadPacket
from tailnet.agent.magicsock.endpoints import Tracker, collect
from tailnet.agent.magicsock.home import facts, net_info
from tailnet.agent.magicsock.hub import Hub
from tailnet.agent.magicsock.netcheck import Report
from tailnet.agent.magicsock.sockets.aio import Sockets, stun_targets
from tailnet.agent.magicsock.survey import Measured, Resolve, Survey
from tailnet.agent.portmap.interface import NO_PORTMAP, Portmap
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tailcfg.node import NetInfo
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.magicsock")


class Measuring:
    """Finds out where we are and which relay is nearest; tells hub, relays and control.

    The owner calls :meth:`drain` after every input, and drains the hub after that.

    Attributes:
        endpoints: own addresses as control was told, with their kinds.
        net_info: latest findings, latencies included.
    """

    def __init__(  # noqa: PLR0913 - what it reads, and whom it tells
        self,
        hub: Hub,
        derp: DerpFleet,
        sockets: Sockets,
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
        self._now = now
        self._send_udp = send_udp
        self._pump = pump
        self._on_endpoints = on_endpoints
        self._on_netinfo = on_netinfo
        self._survey = Survey(random_bytes=random_bytes)
        self._tracker = Tracker()
        self._portmap = NO_PORTMAP
        self._tasks = Tasks()
        self.endpoints: tuple[tuple[AddrPort, int], ...] = ()
        self.net_info: NetInfo | None = None

    @property
    def home(self) -> int:
        """Our home region, 0 if none."""
        return self._survey.home

    def set_map(self, derp_map: DERPMap) -> None:
        """Other relays: measure them."""
        self._survey.set_map(derp_map, self._now())

    def refresh(self) -> None:
        """Measure, unless that happens already."""
        if not self._survey.busy:
            self._survey.measure(self._now())

    def again(self) -> None:
        """Measure, once more if that happens already: what is told of it has changed."""
        self._survey.measure(self._now())

    def link_changed(self) -> None:
        """Another network: forget and measure."""
        self._tracker.clear()
        self._survey.measure(self._now(), afresh=True)

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
                    _ = self._tasks.start("stun servers", self._resolve(event))
                case Measured(report):
                    self._spread(report)
        return busy

    async def close(self) -> None:
        """Stop resolving."""
        await self._tasks.close()

    async def _resolve(self, wanted: Resolve) -> None:
        targets = await stun_targets(wanted.derp_map, wanted.regions)
        self._survey.begin(wanted.turn, targets, self._now())
        self._pump()

    def _spread(self, report: Report) -> None:
        """Choose the home; tell peers and control what changed.

        Who listens for control may call back into magicsock, so it is told after the drain.
        """
        now = self._now()
        loop = asyncio.get_running_loop()
        before = self._survey.home
        home = self._survey.choose_home(report, now, alive=before in self._derp.live())
        if home != before:
            log.info("home relay is region %d", home) if home else log.info("no home relay")
            self._derp.set_home(home)
            self._hub.set_home(home, now)
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
        old = self.net_info
        self.net_info = net_info(report, home, has_ipv6=ports.v6 != 0, portmap=self._portmap)
        if old is None or facts(old) != facts(self.net_info):
            loop.call_soon(self._on_netinfo, self.net_info)
