"""``Account``: the login.  Keys and prefs on disk, and the control session that uses them."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

import msgspec

from tailnet.agent.backend import profiles
from tailnet.agent.backend.account.line.aio import Line, World
from tailnet.agent.backend.account.record import Record
from tailnet.agent.backend.account.standing import Standing
from tailnet.agent.backend.events import (
    BrowseToURL,
    LoginFinished,
    NodeEvent,
    PrefsChanged,
    ProfileChanged,
)
from tailnet.agent.backend.files.aio import StateStore
from tailnet.agent.backend.loginprofile import LoginProfile
from tailnet.agent.backend.prefs import Prefs, apply_masked
from tailnet.agent.backend.store import Stored, fresh
from tailnet.agent.control.ask import Answers
from tailnet.agent.control.events import ControlEvent, LoginFailed, Registered
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.control.trouble import Cause
from tailnet.agent.control.wishes import Wish
from tailnet.agent.errors import UserError
from tailnet.agent.keys import DiscoPrivate, NodePrivate

log = logging.getLogger("tailnet.account")

LOCKED = "the settings are locked: a configuration file rules; change it, and reload it"


class Account:
    """One login to one server.  Tells ``on_event`` first, then ``on_change``."""

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        store: StateStore,
        world: World,
        disco: DiscoPrivate,
        *,
        on_event: Callable[[NodeEvent], None],
        on_change: Callable[[], None],
        answers: Answers | None = None,
    ) -> None:
        """Read the state file; ``answers`` is for what control asks of this node.

        Raises:
            UserError: it cannot be used.
        """
        self._store = store
        self._world = world
        self._on_event = on_event
        self._on_change = on_change
        self._record = Record(store.load(world.random_bytes), store.save, world.random_bytes)
        self._standing = Standing(self._record, world.wall)
        self._turn = asyncio.Lock()  # one change of account at a time
        self.line = Line(
            self._record,
            self._standing,
            world,
            disco,
            ephemeral=store.path is None,
            on_event=self._heard,
            answers=answers,
        )
        self.locked = False
        """A configuration file rules: prefs cannot be changed by commands."""

    # --- what is

    @property
    def prefs(self) -> Prefs:
        """The user's wishes, as on disk."""
        return self._record.prefs

    @property
    def node_key(self) -> NodePrivate:
        """Identity of this login, accepted or proposed."""
        return self._record.node_key

    @property
    def registered(self) -> bool:
        """A server has accepted this node's key before."""
        return self._record.registered

    @property
    def log_id(self) -> str:
        """64 hex digits that tell this installation from others; no secret."""
        return self._record.stored.backend_log_id

    @property
    def profile(self) -> LoginProfile:
        """The account in use; without id before its login is complete."""
        return profiles.current(self._record.stored)

    @property
    def profile_id(self) -> str:
        """Of the profile in use, logged in or not."""
        return self._record.stored.profile_id

    @property
    def profiles(self) -> tuple[LoginProfile, ...]:
        """All accounts, newest first."""
        return profiles.listed(self._record.stored)

    @property
    def netmap(self) -> NetworkMap | None:
        """The last network map, in use or not."""
        return self._standing.netmap

    def use_map(self, netmap: NetworkMap) -> None:
        """This one is the last, though no server sent it now: it was kept."""
        self._standing.netmap = netmap

    @property
    def can_continue(self) -> bool:
        """Control gets further without anybody's help."""
        return not self.auth_url and (self.line.contact.open or self.registered)

    @property
    def auth_url(self) -> str:
        """What a person must open to log in; empty if nothing."""
        return self._standing.auth_url

    @property
    def login_problem(self) -> str:
        """Why the last attempt to log in failed; empty when it did not."""
        return self._standing.login_problem

    @property
    def control_problem(self) -> str:
        """Why the map stream ended; empty while there is one."""
        return self._standing.control_problem

    @property
    def control_cause(self) -> Cause:
        """What kind of trouble there is with the server."""
        return self._standing.control_cause

    # --- wishes

    def configure(self, masked: Mapping[str, object]) -> None:
        """Take prefs from the configuration file, before :meth:`resume`.

        Raises:
            UserError: refused, or not storable.
        """
        prefs = apply_masked(self.prefs, masked)
        self._record.check(prefs)
        elsewhere = prefs.server_url != self.prefs.server_url and self.registered
        if elsewhere:
            self._record.use(replace(self._record.blank(), prefs=prefs))
        else:
            self._record.change(prefs=prefs)

    def settle(self) -> None:
        """Bring the state on disk into its form of today.

        Raises:
            UserError: it cannot be written; it is as it was.
        """
        if self._store.stale:
            self._record.settle()
            log.info("the state is encrypted now")

    def resume(self, auth_key: str) -> None:
        """At a start, or in use again: connect if that is wanted, or if ``auth_key`` is given."""
        if self.line.contact.open:
            return
        if self.prefs.want_running and self.registered:
            self.line.connect()
        elif auth_key and not self.registered:
            self.line.auth_key = auth_key
            self._record.change(prefs=_connected(self.prefs))
            self.line.connect()

    def edit(self, masked: Mapping[str, object], *, by_file: bool = False) -> Prefs:
        """Change what the mask names.

        Raises:
            UserError: refused, or not storable; nothing changed.
        """
        if self.locked and not by_file:
            raise UserError(LOCKED)
        return self._adopt(apply_masked(self.prefs, masked))

    def revise(self, change: Callable[[Prefs], Prefs]) -> Prefs:
        """Make other prefs of those there are.

        Raises:
            UserError: ``change`` refuses, or the file rules; nothing changed.
        """
        if self.locked:
            raise UserError(LOCKED)
        return self._adopt(change(self.prefs))

    def _adopt(self, prefs: Prefs) -> Prefs:
        if prefs == msgspec.structs.replace(self.prefs, want_running=False):
            self._record.note(prefs=prefs)  # to go down needs no byte of disk
        else:
            self._record.check(prefs)
            self._record.change(prefs=prefs)
        if prefs.want_running and not self.line.contact.open and self.registered:
            self.line.connect()
        elif not prefs.want_running and self.line.contact.open:
            self.line.hang_up()
        self.line.refresh()
        self._on_event(PrefsChanged(prefs))
        self._on_change()
        return prefs

    async def login(
        self, masked: Mapping[str, object], auth_key: str, *, by_file: bool = False
    ) -> None:
        """Merge prefs and connect, with ``auth_key`` if the server asks for one.

        A login to another server begins a new profile; the one in use stays as it was.

        Raises:
            UserError: the prefs are refused; nothing changed.
        """
        if self.locked and masked and not by_file:
            raise UserError(LOCKED)
        async with self._turn:
            prefs = apply_masked(self.prefs, masked)
            self._record.check(prefs)
            if prefs.server_url != self.prefs.server_url and self.registered:
                self._replace(replace(self._record.blank(), prefs=_connected(prefs)))
            else:
                self._record.change(prefs=_connected(prefs))
                self.line.hang_up()
            await self.line.contact.close()
            self.line.log_in(auth_key)
            self._on_event(PrefsChanged(self.prefs))
            self._on_change()

    def login_interactive(self) -> None:
        """Log in anew in a browser (or with the auth key at hand); the URL comes as an event.

        A login that is good stays in use until the new one is accepted.

        Raises:
            UserError: this node is not to connect at all.
        """
        if self.auth_url:
            self._on_event(BrowseToURL(self.auth_url))
        elif not self.prefs.want_running:
            msg = "this machine is disconnected; connect and log in with: tnet up"
            raise UserError(msg)
        elif not self.line.contact.open:
            self.line.connect()
        elif self.registered and not self.line.contact.fresh and not self.line.log_in_anew():
            self._on_event(LoginFinished())

    async def logout(self) -> None:
        """Expire the key at the server if it can be reached; the profile goes in any case.

        Raises:
            UserError: the state cannot be written.
        """
        async with self._turn:
            if self.registered:
                await self.line.contact.logout()
            await self._use(profiles.dropped(self._record.stored, self._world.random_bytes))

    # --- several accounts

    async def reset(self) -> None:
        """Forget every account and the machine's key, as if this were a new machine.

        Raises:
            UserError: refused, or not storable; nothing changed.
        """
        async with self._turn:
            self._check_unlocked()
            prefs = Prefs(operator_user=self.prefs.operator_user)
            await self._use(replace(fresh(self._world.random_bytes), prefs=prefs))

    async def switch(self, profile_id: str) -> None:
        """Use another account, and :meth:`resume` it; the one in use stays as it is.

        Raises:
            UserError: there is none of that id, or it cannot be used; nothing changed.
        """
        async with self._turn:
            self._check_unlocked()
            chosen = profiles.switched(self._record.stored, profile_id, self._world.random_bytes)
            if chosen is not self._record.stored:
                await self._use(chosen)

    async def new_profile(self) -> None:
        """Use a new, empty account; one that has no login yet is emptied.

        Raises:
            UserError: refused, or not storable; nothing changed.
        """
        async with self._turn:
            self._check_unlocked()
            await self._use(self._record.blank())

    async def delete(self, profile_id: str) -> None:
        """Forget an account and its keys; the server is not told.

        Raises:
            UserError: there is none of that id, or it cannot be written; nothing changed.
        """
        async with self._turn:
            self._check_unlocked()
            left = profiles.removed(self._record.stored, profile_id, self._world.random_bytes)
            if left.profile_id != self.profile_id:
                await self._use(left)
            else:
                removed = self._record.write(left)
                self._on_event(ProfileChanged(left.profile_id, removed))

    async def _use(self, stored: Stored) -> None:
        self._replace(stored)
        await self.line.contact.close()
        self._on_event(PrefsChanged(self.prefs))
        self._on_change()

    def _replace(self, stored: Stored) -> None:
        """Be another profile: on disk first, then here.  All at once, so that nobody sees half.

        Raises:
            UserError: it cannot be written; nothing changed.
        """
        removed = self._record.use(stored)
        self.line.hang_up()
        self._standing.netmap = None
        self.line.auth_key = ""
        self._on_event(ProfileChanged(stored.profile_id, removed))

    def _check_unlocked(self) -> None:
        if self.locked:
            raise UserError(LOCKED)

    async def ask(self, wish: Wish) -> dict[str, object]:
        """Ask control for something besides the map.

        Raises:
            UserError: it refuses, cannot be reached, or nobody is logged in.
        """
        return await self.line.contact.ask(wish)

    async def shorten(self, expiry: datetime) -> None:
        """Let the node key end earlier.

        Raises:
            UserError: control refuses, cannot be reached, or nobody is logged in.
        """
        await self.line.contact.shorten(expiry)

    async def disconnect(self) -> None:
        """Leave the control server alone, until the next start or login."""
        self.line.hang_up()
        await self.line.contact.close()
        self._on_change()

    def poke(self) -> None:
        """Connect to the control server anew, which sends the whole map."""
        self.line.contact.poke()

    # --- the control session

    async def close(self) -> None:
        """End everything; keys and prefs are on disk already."""
        await self.line.close()

    def _heard(self, event: ControlEvent) -> None:
        contact = self.line.contact
        if isinstance(event, Registered):
            self.line.auth_key = ""  # spent; else a node that is deleted would come back
        if isinstance(event, LoginFailed) and event.retry_in is None:
            self.line.auth_key = ""
            if self.registered and not contact.open:
                self.line.connect()  # as before somebody came with that key
        for news in self._standing.handle(event, accepted=contact.accepted, fresh=contact.fresh):
            self._on_event(news)
        self._on_change()


def _connected(prefs: Prefs) -> Prefs:
    return msgspec.structs.replace(prefs, want_running=True, logged_out=False)
