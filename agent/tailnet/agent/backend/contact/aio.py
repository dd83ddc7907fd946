"""``Contact``: the control session in use, and the login that may replace it.

A login with a new key does not end the session of the old one: until the server accepts the new
key, traffic and updates go on as before.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.control.aio import ControlClient
from tailnet.agent.control.events import AuthURL, ControlEvent, LoginFailed, Registered
from tailnet.agent.control.wishes import Wish
from tailnet.agent.errors import UserError
from tailnet.agent.keys import DiscoPublic
from tailnet.agent.tailcfg.node import Hostinfo
from tailnet.agent.tasks import Tasks

Hear = Callable[[ControlEvent], None]


@dataclass(eq=False)
class _Session:
    fresh: bool  # it logs in with a key that no server has seen
    accepted: bool = False  # the server took its key, and has not said otherwise since
    client: ControlClient = field(init=False)
    task: asyncio.Task[None] = field(init=False)


class Contact:
    """At most one session and one login in place of it.

    Args:
        make: a client that tells the given function; ``fresh`` asks for a new node key.
        on_event: what the session says, and what of the login concerns a person.
    """

    def __init__(self, make: Callable[[bool, Hear], ControlClient], on_event: Hear) -> None:
        self._make = make
        self._on_event = on_event
        self._session: _Session | None = None
        self._renewal: _Session | None = None
        self._described: tuple[Hostinfo, tuple[tuple[AddrPort, int], ...]] | None = None
        self._tasks = Tasks()

    @property
    def open(self) -> bool:
        """There is a session, connected or not; it ends with a refused auth key."""
        return self._session is not None

    @property
    def fresh(self) -> bool:
        """A login with a new key is under way."""
        session = self._renewal or self._session
        return session is not None and session.fresh

    @property
    def accepted(self) -> bool:
        """The session in use is logged in; whatever is wrong concerns a login beside it."""
        return self._session is not None and self._session.accepted

    def connect(self, *, fresh: bool = False) -> None:
        """Begin a session; end the one before with :meth:`hang_up` first."""
        self._session = self._start(fresh=fresh)

    def renew(self) -> None:
        """Log in with a new key beside the session; it takes over when the server accepts it."""
        if self._renewal is None:
            self._renewal = self._start(fresh=True)

    def describe(self, hostinfo: Hostinfo, endpoints: tuple[tuple[AddrPort, int], ...]) -> None:
        """Tell control about this node."""
        self._described = (hostinfo, endpoints)
        for session in (self._session, self._renewal):
            if session is not None:
                session.client.update(hostinfo, endpoints)

    def set_disco_key(self, key: DiscoPublic) -> None:
        """Peers shall find paths by another key."""
        for session in (self._session, self._renewal):
            if session is not None:
                session.client.set_disco_key(key)

    def network_changed(self, addresses: Collection[IPAddress]) -> None:
        """The host's network is another one; see ``ControlClient``."""
        for session in (self._session, self._renewal):
            if session is not None:
                session.client.network_changed(addresses)

    def poke(self) -> None:
        """Connect anew."""
        for session in (self._session, self._renewal):
            if session is not None:
                session.client.poke()

    async def logout(self) -> None:
        """Let the server expire the key; gives up after about 5 s."""
        session = self._session
        client = session.client if session else self._make(False, lambda _: None)
        await client.logout()

    async def ask(self, wish: Wish) -> dict[str, object]:
        """Ask control for something.

        Raises:
            UserError: it refuses, cannot be reached, or there is no login.
        """
        return await self._client().ask(wish)

    async def shorten(self, expiry: datetime) -> None:
        """Let the node key end earlier.

        Raises:
            UserError: control refuses, cannot be reached, or there is no login.
        """
        await self._client().shorten(expiry)

    def _client(self) -> ControlClient:
        if self._session is None or not self._session.accepted:
            msg = "not connected to a control server; connect with: tnet up"
            raise UserError(msg)
        return self._session.client

    def hang_up(self) -> None:
        """End all sessions; nothing of theirs is told any more."""
        for session in (self._session, self._renewal):
            if session is not None:
                session.task.cancel()
        self._session = self._renewal = None

    async def close(self) -> None:
        """Hang up, and wait until the connections are gone."""
        self.hang_up()
        await self._tasks.close()

    def _start(self, *, fresh: bool) -> _Session:
        session = _Session(fresh)
        session.client = self._make(fresh, lambda event: self._heard(session, event))
        if self._described is not None:
            session.client.update(*self._described)
        session.task = self._tasks.start("control", session.client.run())
        return session

    def _heard(self, session: _Session, event: ControlEvent) -> None:
        if isinstance(event, Registered):
            session.fresh, session.accepted = False, True
        elif isinstance(event, AuthURL | LoginFailed):
            session.accepted = False
        if session is self._renewal:
            if not self._heard_renewal(session, event):
                return
        elif session is not self._session:
            return  # it was ended, and does not know yet
        elif isinstance(event, AuthURL) and self._renewal is not None:
            # The server does not know this node any more: this login is the one that counts now.
            self._renewal.task.cancel()
            self._renewal = None
        elif isinstance(event, LoginFailed) and event.retry_in is None:
            self._session = None
        self._on_event(event)

    def _heard_renewal(self, session: _Session, event: ControlEvent) -> bool:
        """What it means for the sessions; whether it is to be told."""
        match event:
            case Registered():
                old, self._session, self._renewal = self._session, session, None
                if old is not None:
                    old.task.cancel()
                return True
            case LoginFailed(pending=pending, final=final):
                if pending and not final:
                    return False  # the URL stays good, and the client goes on asking
                self._renewal = None  # whoever asked is told, and may ask again
                session.task.cancel()
                return True
            case _:
                return isinstance(event, AuthURL)
