"""One map stream: bytes in, events out.

The watchdog covers everything from sending the request to the last message; a message is handled
in the order the protocol gives: ping, clock, then (unless it is a keep-alive) the map.

Source: tailscale control/controlclient/direct.go sendMapRequest, map.go mapSession.
"""

import logging
from collections import deque
from collections.abc import Mapping
from contextlib import nullcontext
from enum import Enum, auto

from tailnet.agent.control.events import Connected, NetmapChanged, PopBrowser
from tailnet.agent.control.fold import Change, Folder
from tailnet.agent.control.mapstream import decompress_untrusted, split_untrusted
from tailnet.agent.control.resume import Resume
from tailnet.agent.control.trouble import ServerSilent
from tailnet.agent.dates import Calendar
from tailnet.agent.slices import Steps, much_to_keep
from tailnet.agent.tailcfg.codec import instant
from tailnet.agent.tailcfg.mapping import (
    AT_ONCE,
    ControlDialPlan,
    Debug,
    MapResponse,
    PingRequest,
    decode_map_slices_untrusted,
)
from tailnet.agent.tailcfg.node import Node, NodeID
from tailnet.agent.timers import TimerTable

log = logging.getLogger("tailnet.control")

WATCHDOG = 120.0  # seconds without a message
LONGEST_PAUSE = 300.0  # seconds
MESSAGES_IN_A_TURN = 50  # small ones; each costs 0.2 ms
MAX_EXPIRY_SLEEP = 3600.0  # seconds


SessionEvent = Connected | NetmapChanged | PingRequest | PopBrowser | ControlDialPlan


class Timer(Enum):
    """Deadlines of a map stream."""

    WATCHDOG = auto()
    """Nothing came for too long."""
    EXPIRY = auto()
    """A key runs out."""
    PAUSE = auto()
    """A pause that the server asked for is over."""


class MapSession:
    """The machine of one streaming poll.

    Args:
        calendar: hears of the server's date, and tells whose key has expired.
        compressed: we asked for zstd.
        before: peers of the map in use.
        last_ping: URL of the last ping request that was handled, in any session.
        resume: the session that the request asked the server to go on with.
    """

    def __init__(  # noqa: PLR0913 - each is one thing that a poll begins with
        self,
        now: float,
        calendar: Calendar,
        *,
        compressed: bool,
        before: Mapping[NodeID, Node] | None = None,
        last_ping: str = "",
        resume: Resume | None = None,
    ) -> None:
        self._calendar = calendar
        self._compressed = compressed
        self._folder = Folder(before or {})
        self._buffer = bytearray()
        self._reading: Steps[None] | None = None
        self._events: deque[SessionEvent] = deque()
        self._popped = ""
        self._offered = resume
        self._handle_name = ""
        self._seq = 0
        self._paused_until = 0.0
        self._timers: TimerTable[Timer] = TimerTable()
        self._timers.arm(Timer.WATCHDOG, now + WATCHDOG)
        self.last_ping = last_ping
        self.established = False
        """A full map was delivered: the failure counter may start over."""

    @property
    def resume(self) -> Resume | None:
        """How to go on after this stream; ``None`` if the server does not offer that.

        Nor can it be done from the middle of a message.
        """
        if not self._handle_name or not self.established or self.busy:
            return None
        return Resume(self._handle_name, self._seq, self._folder)

    def receive_untrusted(self, data: bytes, now: float) -> None:
        """Bytes of the response body, in any chunks.

        A large message is handled in slices: call :meth:`go_on_untrusted` while :attr:`busy`.

        Raises:
            BadPacket: the stream is damaged or out of order; the poll is over.
        """
        self._buffer += data
        self._begin_untrusted(now)

    @property
    def busy(self) -> bool:
        """There is more to do with what was received."""
        return self._reading is not None

    def go_on_untrusted(self) -> None:
        """Do the next slice.

        Raises:
            BadPacket: see :meth:`receive_untrusted`.
        """
        if self._reading is not None:
            try:
                next(self._reading)
            except StopIteration:
                self._reading = None

    def _begin_untrusted(self, now: float) -> None:
        if self._reading is None:
            self._reading = self._read_untrusted(now)
            self.go_on_untrusted()

    def _read_untrusted(self, now: float) -> Steps[None]:
        """Messages that are complete, until one asks for a pause."""
        for number, message in enumerate(split_untrusted(self._buffer), start=1):
            json = decompress_untrusted(message) if self._compressed else message
            with much_to_keep() if len(json) > AT_ONCE else nullcontext():
                response, dropped = yield from decode_map_slices_untrusted(json)
                if dropped:
                    log.warning("left out %d malformed entries of a map message", dropped)
                yield from self._handle(response, now)
            if now < self._paused_until:
                return
            if number % MESSAGES_IN_A_TURN == 0:
                yield

    def _handle(self, message: MapResponse, now: float) -> Steps[None]:
        self._timers.arm(Timer.WATCHDOG, now + WATCHDOG)
        ping = message.ping_request
        if ping is not None and ping.url != self.last_ping:
            self.last_ping = ping.url
            self._events.append(ping)
        if message.pop_browser_url and message.pop_browser_url != self._popped:
            self._popped = message.pop_browser_url
            self._events.append(PopBrowser(message.pop_browser_url))
        if not self.established and not message.keep_alive:
            self._begin(message.map_session_handle)
        if (told := instant(message.control_time)) is not None:
            self._calendar.note(told)
        if message.control_dial_plan is not None:
            self._events.append(message.control_dial_plan)
        if message.keep_alive:
            return
        change = yield from self._folder.fold_slices(message, self._calendar.today())
        self._seq = message.seq or self._seq
        if not self.established:
            self.established = True
            self._events.append(Connected())
        self._emit(change)
        self._arm_expiry(now)
        self._obey(message.debug, now)

    def _begin(self, handle: str) -> None:
        """The first message: it goes on with the session we offered if it has that one's name."""
        self._handle_name = handle
        if self._offered is not None and handle == self._offered.handle:
            self._seq, self._folder = self._offered.seq, self._offered.folder

    def _obey(self, debug: Debug | None, now: float) -> None:
        """Pause if we are told to; that a server can end this program is not offered."""
        if debug is None:
            return
        if debug.exit is not None:
            log.warning("the control server asks this program to exit; it stays")
        if debug.sleep_seconds > 0:
            seconds = min(debug.sleep_seconds, LONGEST_PAUSE)
            log.info("the control server asks for a pause of %.0f s", seconds)
            self._paused_until = now + seconds
            self._timers.arm(Timer.PAUSE, self._paused_until)
            self._timers.stop(Timer.WATCHDOG)

    @property
    def paused(self) -> bool:
        """The server asked for a pause: read nothing before the next timeout."""
        return self._timers.armed(Timer.PAUSE) is not None

    def poll_event(self) -> SessionEvent | None:
        """Next thing to tell, or ``None``."""
        return self._events.popleft() if self._events else None

    def next_timeout(self) -> float | None:
        """When to call :meth:`handle_timeout` [s]."""
        return self._timers.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """A deadline passed.

        Raises:
            BadPacket: what came during a pause is damaged; the poll is over.
            ServerSilent: for too long; the poll is over.
        """
        for timer in self._timers.expire(now):
            if timer is Timer.WATCHDOG:
                msg = f"the control server was silent for {WATCHDOG:.0f} s"
                raise ServerSilent(msg)
            if timer is Timer.PAUSE:
                self._timers.arm(Timer.WATCHDOG, now + WATCHDOG)
                self._begin_untrusted(now)
                continue
            if (change := self._folder.expire(self._calendar.today())) is not None:
                self._emit(change)
            self._arm_expiry(now)

    def _emit(self, change: Change) -> None:
        """Deltas that came together are told as one: what follows from them is done once."""
        netmap = self._folder.netmap(self._calendar.today())
        last = self._events[-1] if self._events else None
        if isinstance(last, NetmapChanged):
            self._events.pop()
            change = change.after(last.full, last.changed, last.removed)
        self._events.append(NetmapChanged(netmap, change.full, change.changed, change.removed))

    def _arm_expiry(self, now: float) -> None:
        self._timers.stop(Timer.EXPIRY)
        if (left := self._folder.next_expiry(self._calendar.today())) is not None:
            self._timers.arm(Timer.EXPIRY, now + min(left, MAX_EXPIRY_SLEEP))
