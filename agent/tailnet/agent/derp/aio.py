"""The relays' shell: connections to DERP regions, their tasks and timers."""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from tailnet.agent import clock
from tailnet.agent.addr import IPAddress
from tailnet.agent.derp.backlog import Backlog
from tailnet.agent.derp.connection.aio import Connection
from tailnet.agent.derp.dial.aio import Dialer, reason
from tailnet.agent.derp.fleet import Close, Fleet, Open, Prefer
from tailnet.agent.derp.session import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    Batch,
    Event,
    Health,
    PeerGone,
    Restarting,
    Session,
    Up,
)
from tailnet.agent.errors import BadPacket, RemoteProtocolError
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPRegion
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.derp")

WARN_EVERY = 60.0  # s between two lines about what a relay complains of
HEALTH_DELAY = 0.1  # s in which changes of what relays complain of are told as one
CHECK_PATIENCE = 10.0  # s that a relay may take to say that it is there


class DerpFleet:
    """Keeps the home relay connected, and others while they are used.

    Attributes:
        dialer: how relays are reached.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        node_key: NodePrivate,
        *,
        on_packets: Callable[[int, NodePublic, list[bytes]], None],
        on_live: Callable[[frozenset[int]], None],
        on_health: Callable[[], None],
        mark: Callable[[socket.socket], None],
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        ca_file: str | None = None,
        plain_http: bool = False,
        environ: Mapping[str, str] = {},
        wall: Callable[[], datetime] = clock.wall,
    ) -> None:
        """Nothing happens before :meth:`start`.

        Args:
            node_key: who we are to the relays.
            on_packets: takes region, sender and the sender's packets of one read, in order.
            on_live: takes the regions that are up, whenever they change.
            on_health: what :meth:`health` says has changed.
            mark: makes a socket bypass the tunnel; called before it connects.
            now: seconds, never decreasing.
            random_bytes: that many of them.
            ca_file: PEM file of roots that count besides the system's.
            plain_http: speak HTTP without TLS, for labs.
            environ: names of proxies, as in the environment.
            wall: UTC time, for certificates.
        """
        self._node_key = node_key
        self._on_packets = on_packets
        self._on_live = on_live
        self._on_health = on_health
        self._now = now
        self._random_bytes = random_bytes
        self.dialer = Dialer(
            mark=mark, wall=wall, ca_file=ca_file, plain_http=plain_http, environ=environ
        )
        self._fleet = Fleet(random_bytes)
        self._drops: Counter[str] = Counter()
        self._backlogs: dict[int, Backlog] = {}
        self._connections: dict[int, Connection] = {}
        self._dials: dict[int, asyncio.Task[None]] = {}
        self._dirty: set[Connection] = set()
        self._tasks = Tasks()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._telling: asyncio.TimerHandle | None = None
        self._live: frozenset[int] = frozenset()
        self._health: dict[int, str] = {}
        self._silent: set[int] = set()
        self._warn_from: dict[int, float] = {}  # when the next complaint may be logged
        self._failures: dict[int, str] = {}  # why there is no connection; logged when it changes

    # --- for the node --------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._pump()

    def set_map(self, derp_map: DERPMap) -> None:
        """Take a new map: connections to regions that went or changed are closed."""
        self._fleet.set_map(derp_map, self._now())
        self._pump()

    @property
    def silent(self) -> frozenset[int]:
        """Regions that were left for want of a word, and are not connected again."""
        return frozenset(self._silent)

    def set_home(self, region: int) -> None:
        """The region others find this node at; 0 is none."""
        self._fleet.set_home(region, self._now())
        self._pump()

    def send(self, region: int, dst: NodePublic, datagrams: Sequence[bytes]) -> None:
        """Relay datagrams to a node whose home is ``region``; 0 means unknown.  Never blocks.

        Each has at most 65 536 bytes.  What cannot be sent is dropped and counted.
        """
        now = self._now()
        via = self._fleet.route(region, dst, now)
        if not via:
            reason = "region not in the map" if region else "no route"
            self._drops[reason] += len(datagrams)
            return
        backlog = self._backlog(via)
        backlog.push(dst, datagrams, now)
        connection = self._connections.get(via)
        if connection is None:
            self._pump()
        elif connection not in self._dirty and self._loop is not None:
            if not self._dirty:
                self._loop.call_soon(self.flush)
            self._dirty.add(connection)

    def flush(self) -> None:
        """Write what was sent in this turn of the event loop; else its end does."""
        if self._dirty:
            dirty, self._dirty = self._dirty, set()
            for connection in dirty:
                connection.flush()
            self._arm()

    def live(self) -> frozenset[int]:
        """Regions whose relay has accepted this node."""
        return self._live

    def heard(self, region: int) -> float | None:
        """When a frame of a connected relay last came [s]; ``None`` if it is not connected."""
        connection = self._connections.get(region)
        return connection.session.heard if connection and region in self._live else None

    def check(self, region: int) -> None:
        """Ask a connected relay whether it is there; one that stays silent is hung up on."""
        if (connection := self._connections.get(region)) is not None:
            connection.session.ping(self._now(), CHECK_PATIENCE)
            connection.flush()
            self._arm()

    def health(self) -> dict[int, str]:
        """What relays complain about, and why they turn us away, by region; empty if all is well.

        Whoever cannot be reached at all is not named.
        """
        return dict(self._health)

    def set_node_key(self, key: NodePrivate) -> None:
        """Become another node: everything reconnects."""
        if key != self._node_key:
            self._node_key = key
            self._fleet.restart(self._now())
            self._pump()

    def link_changed(self, addresses: Collection[IPAddress] | None = None) -> None:
        """The network moved: connections that do not answer within 3 s are closed.

        Those whose own address is not among ``addresses`` are closed at once.
        """
        now = self._now()
        for region, dial in list(self._dials.items()):
            dial.cancel()  # it may be waiting for an answer to the old address
            del self._dials[region]
            self._fleet.handle_failed(region, now)
        for connection in list(self._connections.values()):
            if addresses is not None and connection.own_address() not in addresses:
                connection.end("our address is gone")
            else:
                connection.session.ping(now)
                connection.pump()
        self._fleet.link_changed(now)
        self._pump()

    def drops(self) -> dict[str, int]:
        """Packets not sent, by reason."""
        return {reason: count for reason, count in self._drops.items() if count}

    async def close(self) -> None:
        """Close every connection; the fleet cannot be started again."""
        self._loop = None
        for timer in (self._timer, self._telling):
            if timer is not None:
                timer.cancel()
        for region in list(self._connections):
            self._hang_up(region)
        await self._tasks.close()

    # --- from connections ------------------------------------------------------

    def handle_batches(self, connection: Connection, batches: list[Batch]) -> None:
        """Packets of one read, by source."""
        region = connection.region
        self._fleet.handle_received(region, [source for source, _ in batches])
        for source, packets in batches:
            self._on_packets(region, source, packets)

    def handle_event(self, connection: Connection, event: Event) -> None:
        """A session has something to say."""
        region = connection.region
        match event:
            case Up():
                log.info("connected to relay region %d", region)
                self._silent.discard(region)
                self._failures.pop(region, None)
                self._note_health(region)
                self._fleet.handle_up(region, self._now())
                self._pump()
            case PeerGone(peer, _):
                self._fleet.handle_peer_gone(region, peer)
            case Restarting(reconnect_in, _):
                self._fleet.handle_restarting(region, reconnect_in)
            case Health(text):
                self._note_health(region, text)
                if text:
                    self._warn(region, text)

    def _note_health(self, region: int, text: str = "") -> None:
        if text == self._health.get(region, ""):
            return
        self._health.pop(region, None)
        if text:
            self._health[region] = text
        if self._telling is None and self._loop is not None:
            self._telling = self._loop.call_later(HEALTH_DELAY, self._tell_health)

    def _tell_health(self) -> None:
        self._telling = None
        self._on_health()

    def _warn(self, region: int, text: str) -> None:
        """Log a complaint; a relay may say as many as it likes, but fills no disk with them."""
        now = self._now()
        if now >= self._warn_from.get(region, now):
            self._warn_from[region] = now + WARN_EVERY
            log.warning("relay region %d complains: %.200r", region, text)

    def handle_end(self, connection: Connection, reason: str) -> None:
        """A connection is over; one that was not up yet was turned away."""
        del self._connections[connection.region]
        if self._now() - connection.session.heard >= READ_TIMEOUT:
            self._silent.add(connection.region)
        refused = connection.region not in self._live
        self._handle_failed(connection.region, reason, refused=refused)

    def _handle_failed(self, region: int, why: str, *, refused: bool) -> None:
        if self._failures.get(region) != why:
            self._failures[region] = why
            log.info("relay region %d: %s", region, why)
        self._note_health(region, why if refused else "")
        self._backlog(region).hold()
        self._fleet.handle_failed(region, self._now())
        self._pump()

    # --- inside ----------------------------------------------------------------

    def _backlog(self, region: int) -> Backlog:
        backlog = self._backlogs.get(region)
        if backlog is None:
            backlog = self._backlogs[region] = Backlog(self._drops)
        return backlog

    def _pump(self) -> None:
        """Do what the fleet wants, report what is live, re-arm the timer."""
        if self._loop is None:
            return
        while (action := self._fleet.poll_action()) is not None:
            match action:
                case Open(region):
                    dial = self._tasks.start(f"derp-{region.region_id}", self._dial(region))
                    self._dials[region.region_id] = dial
                case Close(region_id):
                    self._hang_up(region_id)
                case Prefer(region_id, home):
                    if (connection := self._connections.get(region_id)) is not None:
                        connection.session.note_preferred(home=home)
                        connection.flush()
        if (live := self._fleet.live()) != self._live:
            self._live = live
            self._on_live(live)
        self._arm()

    def _hang_up(self, region: int) -> None:
        if (dial := self._dials.pop(region, None)) is not None:
            dial.cancel()
        if (connection := self._connections.pop(region, None)) is not None:
            connection.close()
        self._failures.pop(region, None)
        self._note_health(region)
        if (backlog := self._backlogs.pop(region, None)) is not None:
            backlog.clear("connection closed")

    async def _dial(self, region: DERPRegion) -> None:
        region_id, started = region.region_id, self._now()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                connection = await self._connect(region, started)
        except (OSError, ValueError, BadPacket, RemoteProtocolError) as error:
            del self._dials[region_id]
            reached = not isinstance(error, OSError) or isinstance(error, ssl.SSLError)
            self._handle_failed(region_id, reason(error), refused=reached)
        else:
            del self._dials[region_id]
            self._connections[region_id] = connection
            self._arm()

    async def _connect(self, region: DERPRegion, started: float) -> Connection:
        """A connection that begins to speak; raises what the network does to us."""
        node, sock, request = await self.dialer.connect(region)
        session = Session(
            self._node_key,
            self._backlog(region.region_id),
            request=request,
            started=started,
            random_bytes=self._random_bytes,
        )
        connection = Connection(region.region_id, session, self, now=self._now)
        connection.attach(await self.dialer.secure(sock, node, connection))
        return connection

    def _arm(self) -> None:
        due = [each.session.next_timeout() for each in self._connections.values()]
        if (fleet_due := self._fleet.next_timeout()) is not None:
            due.append(fleet_due)
        if self._timer is not None:
            if due and min(due) >= self._timer_at:
                return  # it fires early at worst, and is armed again then
            self._timer.cancel()
            self._timer = None
        if due and self._loop is not None:
            self._timer_at = min(due)
            delay = max(0.0, self._timer_at - self._now())
            self._timer = self._loop.call_later(delay, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer = None
        now = self._now()
        for connection in list(self._connections.values()):
            connection.handle_timeout(now)
        self._fleet.handle_timeout(now)
        self._pump()
