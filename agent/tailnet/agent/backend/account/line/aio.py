"""``Line``: the control session of the account in use, made from what is known of both sides."""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.backend.account.record import Record
from tailnet.agent.backend.account.standing import Standing
from tailnet.agent.backend.contact.aio import Contact, Hear
from tailnet.agent.backend.login import Host, hostinfo, key_left
from tailnet.agent.control.aio import ControlClient, ControlConfig
from tailnet.agent.control.ask import Answers
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.dates import Calendar
from tailnet.agent.keys import DiscoPrivate, NodePrivate
from tailnet.agent.tailcfg.node import Hostinfo, NetInfo, Service
from tailnet.platform.interface import Bypass


@dataclass(frozen=True, slots=True)
class World:
    """What an account needs from outside: clocks, randomness, sockets' marks, trust."""

    host: Host
    bypass: Bypass
    now: Callable[[], float]
    wall: Callable[[], datetime]
    calendar: Calendar
    random_bytes: Callable[[int], bytes]
    ca_file: str | None


FOLLOWS = 5.0  # seconds in which a wish for a new login belongs to the login before it


class Offer(NamedTuple):
    """What a login began with: ``node_key`` was the one in use, ``until`` [s] it counts."""

    auth_key: str
    node_key: NodePrivate | None
    until: float


class Line:
    """Connects to the account's server, and says there where this node is.

    Attributes:
        auth_key: what logs in a node that the server does not know; until the next login.
    """

    def __init__(  # noqa: PLR0913 - each is one thing that a session is made of
        self,
        record: Record,
        standing: Standing,
        world: World,
        disco: DiscoPrivate,
        *,
        ephemeral: bool,
        on_event: Hear,
        answers: Answers | None,
    ) -> None:
        """``ephemeral``: the server is to forget a node that is gone."""
        self._record = record
        self._standing = standing
        self._world = world
        self._disco = disco
        self._ephemeral = ephemeral
        self._answers = answers
        self._endpoints: tuple[tuple[AddrPort, int], ...] = ()
        self._net_info: NetInfo | None = None
        self._services: tuple[Service, ...] = ()
        self.auth_key = ""
        self._offer: Offer | None = None
        self.contact = Contact(self._make, on_event)

    def connect(self) -> None:
        """Begin a session."""
        # A key that has run out is not worth a try; the new one takes over its node.
        left = key_left(self._standing.netmap, self._world.calendar.today())
        fresh = self._record.registered and left is not None and left <= 0
        self.contact.connect(fresh=fresh)
        self.refresh()

    def log_in(self, auth_key: str) -> None:
        """Begin a session, with ``auth_key`` if the server asks for one."""
        self.auth_key = auth_key
        now = self._world.now()
        self._offer = Offer(auth_key, self._record.stored.node_key, now + FOLLOWS)
        self.connect()

    def log_in_anew(self) -> bool:
        """Ask for a new key beside the session; false if the login of just now got one.

        Command lines say "log in with this auth key" and "with a new node key" in two requests.
        By the second one the server may have accepted the old node key, which spends the auth key.
        """
        offer, self._offer = self._offer, None
        if offer is not None and self._world.now() < offer.until:
            if offer.node_key != self._record.stored.node_key:
                return False
            self.auth_key = offer.auth_key
        self.contact.renew()
        return True

    def hang_up(self) -> None:
        """End the session; the network map stays."""
        self._standing.hung_up()
        self.contact.hang_up()

    async def close(self) -> None:
        """Hang up, and wait until the connections are gone."""
        self.hang_up()
        await self.contact.close()

    def describe(
        self,
        endpoints: tuple[tuple[AddrPort, int], ...],
        net_info: NetInfo | None,
        services: tuple[Service, ...],
    ) -> None:
        """Where and with what this node can be reached; control hears of it if it is news."""
        self._endpoints = endpoints
        self._net_info = net_info
        self._services = services
        self.refresh()

    def refresh(self) -> None:
        """The prefs may be others, of which control hears."""
        self.contact.describe(self.hostinfo, self._endpoints)

    @property
    def hostinfo(self) -> Hostinfo:
        """What control is told of this host."""
        prefs, log_id = self._record.prefs, self._record.stored.backend_log_id
        return hostinfo(prefs, self._world.host, log_id, self._net_info, self._services)

    async def rehearse(self) -> tuple[str, ...]:
        """See :meth:`ControlClient.rehearse`."""
        return await self._make(False, lambda _: None).rehearse()

    def set_disco_key(self, disco: DiscoPrivate) -> None:
        """Peers shall find paths by another key: control tells them."""
        self._disco = disco
        self.contact.set_disco_key(public_of(disco))

    def network_changed(self, addresses: Collection[IPAddress]) -> None:
        """Connections from other addresses than these are lost; see ``ControlClient``."""
        self.contact.network_changed(addresses)

    def _make(self, fresh: bool, hear: Hear) -> ControlClient:
        record, stored, world = self._record, self._record.stored, self._world
        netmap = self._standing.netmap
        return ControlClient(
            ControlConfig(
                server_url=stored.prefs.server_url,
                machine_key=stored.machine_key,
                node_key=None if fresh else record.node_key,
                old_node_key=record.node_key if fresh else stored.old_node_key,
                lock_key=public_of(stored.lock_key),
                disco_key=public_of(self._disco),
                auth_key=self.auth_key,
                ephemeral=self._ephemeral,
                ca_file=world.ca_file,
                environ=os.environ,
                derp_map=netmap.derp_map if netmap else None,
            ),
            on_event=hear,
            mark=world.bypass.mark,
            now=world.now,
            wall=world.wall,
            calendar=world.calendar,
            random_bytes=world.random_bytes,
            answers=self._answers,
        )
