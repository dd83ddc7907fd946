"""Does what hub and survey want: datagrams, paths, answers to pings, one timer."""

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from tailnet.agent.datapath.interface import Path, Wake
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.keys import PeerId
from tailnet.agent.magicsock.hub import (
    Event,
    Hub,
    PathChanged,
    PingDone,
    SetWake,
    WantEndpoints,
    WantLatency,
)
from tailnet.agent.magicsock.measure.aio import Measuring
from tailnet.agent.magicsock.sender.aio import Sender
from tailnet.agent.wireguard.session import Source

log = logging.getLogger("tailnet.magicsock")


LATE = 0.5  # seconds that the timer may be late before it is set anew
REFRESH_AFTER = 0.02  # seconds; a handshake and its pings go first, whoever begins to talk


class PingReply(NamedTuple):
    """Round trip [s] of a user's ping, and the way it took."""

    latency: float
    via: Source


class Drain:
    """Empties the cores after every input.

    Attributes:
        on_path: told how a peer is reached from now on.
    """

    def __init__(
        self,
        hub: Hub,
        measuring: Measuring,
        sender: Sender,
        derp: DerpFleet,
        *,
        now: Callable[[], float],
    ) -> None:
        """``derp``: whether the home relay is there decides how often we measure."""
        self._hub = hub
        self._measuring = measuring
        self._sender = sender
        self._derp = derp
        self._now = now
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self._refresh_timer: asyncio.TimerHandle | None = None
        self._pings: dict[int, asyncio.Future[PingReply]] = {}
        self.on_path: Callable[[PeerId, Path], None] = lambda _peer, _path: None

    def start(self) -> None:
        """Begin; needs a running event loop.  What was wanted before is done now."""
        self._running = True
        self.run()

    def stop(self) -> None:
        """Nothing more is sent or told; waiting pings are cancelled."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        if self._refresh_timer is not None:
            self._refresh_timer.cancel()
        for waiting in self._pings.values():
            waiting.cancel()

    def run(self) -> None:
        """Send and tell everything the cores have, then arm one timer."""
        if not self._running:
            return
        while self._measuring.drain() or self._drain_hub():
            pass
        self._arm()

    async def ping(self, peer: PeerId, wait: float, size: int) -> PingReply | None:
        """See :meth:`Magicsock.ping`."""
        reply: asyncio.Future[PingReply] = asyncio.get_running_loop().create_future()
        ticket = self._hub.ping(peer, self._now(), size)
        self._pings[ticket] = reply
        self.run()
        try:
            async with asyncio.timeout(wait):
                return await reply
        except TimeoutError:
            return None
        finally:
            self._pings.pop(ticket, None)

    def _drain_hub(self) -> bool:
        busy = False
        while (transmit := self._hub.poll_transmit()) is not None:
            busy = True
            self._sender.send_to(*transmit)
        while events := self._hub.take_events():
            busy = True
            for event in events:
                self._obey(event)
        return busy

    def _obey(self, event: Event) -> None:
        datapath = self._sender.datapath
        match event:
            case PathChanged(peer, path, _):
                if log.isEnabledFor(logging.DEBUG):  # half the price; ten thousand come at once
                    log.debug("path of peer %d: %s", peer, path)
                if datapath is not None:
                    datapath.set_path(peer, path)
                self.on_path(peer, path)
            case SetWake(peer):
                if datapath is not None:
                    datapath.set_wake(peer, Wake.DATA_SENT)
            case WantEndpoints():
                loop = asyncio.get_running_loop()
                if self._refresh_timer is not None:
                    self._refresh_timer.cancel()  # else one of two would outlive us
                self._refresh_timer = loop.call_later(REFRESH_AFTER, self._refresh)
            case WantLatency(peer, addrs):
                self._measuring.ask_hosts(peer, addrs)
            case PingDone(ticket, _, latency, via):
                reply = self._pings.get(ticket)
                if reply is not None and not reply.done():
                    reply.set_result(PingReply(latency, via))

    def _refresh(self) -> None:
        self._measuring.refresh()
        self.run()

    def _arm(self) -> None:
        wanted = [
            t for t in (self._hub.next_timeout(), self._measuring.next_timeout()) if t is not None
        ]
        at = min(wanted, default=None)
        if at == self._armed_for and not self._overslept():
            return
        self._armed_for = at
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            delay = max(0.0, at - self._now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _overslept(self) -> bool:
        """The machine slept, and asyncio's clock with it, so that the timer would be late."""
        if self._timer is None or self._armed_for is None:
            return False
        left = self._timer.when() - asyncio.get_running_loop().time()
        return left > max(0.0, self._armed_for - self._now()) + LATE

    def _on_timer(self) -> None:
        self._armed_for = None
        self._hub.handle_timeout(
            self._now(), self._last_data_sent, self._last_heard, self._unheard_since
        )
        homeless = self._measuring.home not in self._derp.live()
        self._measuring.handle_timeout(needed=homeless or self._hub.active_peers > 0)
        self.run()

    def _last_data_sent(self, peer: PeerId) -> float:
        datapath = self._sender.datapath
        return 0.0 if datapath is None else datapath.activity(peer).last_data_sent

    def _last_heard(self, peer: PeerId) -> float:
        datapath = self._sender.datapath
        return 0.0 if datapath is None else datapath.activity(peer).last_received

    def _unheard_since(self, peer: PeerId) -> float | None:
        datapath = self._sender.datapath
        return None if datapath is None else datapath.activity(peer).unheard_since
