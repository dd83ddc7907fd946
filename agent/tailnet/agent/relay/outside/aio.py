"""Asks STUN servers from the peer relay's sockets: a NAT maps each port by itself.

Source: tailscale net/udprelay/server.go addrDiscoveryLoop.
"""

import asyncio
from collections.abc import Awaitable, Callable

from tailnet.agent.addr import AddrPort
from tailnet.agent.netcheck.measurement import Addresses, AskOtherwise, CheckPortal
from tailnet.agent.netcheck.plan import Plan
from tailnet.agent.netcheck.survey import Measured, Resolve, Survey, Wanted
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tasks import Tasks


class Outside:
    """Measures every 20 to 26 s, which also keeps the mapping of the NAT alive.

    Args:
        resolve: addresses of the servers of a plan.
        versions: of IP that there are addresses and sockets of.
        send: a datagram, from the relay's socket; false if the kernel has no way.
        on_seen: takes the addresses seen from outside, after each measurement that was answered.
        now: seconds.
        random_bytes: source of randomness.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        *,
        resolve: Callable[[Plan], Awaitable[Addresses]],
        versions: Callable[[], frozenset[int]],
        send: Callable[[AddrPort, bytes], bool],
        on_seen: Callable[[tuple[AddrPort, ...]], None],
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._resolve = resolve
        self._send = send
        self._on_seen = on_seen
        self._now = now
        self._survey = Survey(random_bytes=random_bytes, versions=versions)
        self._tasks = Tasks()
        self._finding: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set_map(self, derp_map: DERPMap) -> None:
        """The servers, asked at once if they are others."""
        self._survey.set_map(derp_map, self._now())
        self._pump()

    def again(self) -> None:
        """Another network."""
        self._survey.measure(self._now(), afresh=True)
        self._pump()

    def handle_response_untrusted(self, data: bytes) -> None:
        """What looks like a STUN response.

        Raises:
            BadPacket: not one that we wait for.
        """
        self._survey.handle_response_untrusted(data, self._now())
        self._pump()

    def close(self) -> None:
        """Nothing more is asked or told."""
        for each in (self._timer, self._finding):
            if each is not None:
                each.cancel()

    def _pump(self) -> None:
        """Send and tell what there is, wake up when something is due."""
        survey = self._survey
        while (request := survey.poll_transmit()) is not None:
            if not self._send(*request):
                survey.send_failed(request[0], self._now())
        while (event := survey.poll_event()) is not None:
            match event:
                case Resolve():
                    find = self._find(event)
                    self._finding = self._tasks.start("stun servers of the peer relay", find)
                case Wanted(turn, AskOtherwise(), _):
                    survey.handle_asked(turn, self._now())  # only UDP shows a mapping
                case Wanted(turn, CheckPortal(), _):
                    survey.handle_portal(turn, None, self._now())
                case Measured(report, _):
                    if report.udp:
                        self._on_seen(report.seen)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due := survey.next_timeout()) is not None:
            delay = max(0.0, due - self._now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._survey.handle_timeout(self._now(), needed=True)
        self._pump()

    async def _find(self, wanted: Resolve) -> None:
        addresses = await self._resolve(wanted.plan)
        self._survey.begin(wanted.turn, addresses, self._now())
        self._pump()
