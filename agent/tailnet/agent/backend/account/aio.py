"""``Account``: the login.  Keys and prefs on disk, and the control session that uses them."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from tailnet.agent.addr import AddrPort
from tailnet.agent.backend import profiles
from tailnet.agent.backend.contact.aio import Contact, Hear
from tailnet.agent.backend.events import (
    BrowseToURL,
    LoginFinished,
    LoginRefused,
    NetworkMapChanged,
    NodeEvent,
    PrefsChanged,
    ProfileChanged,
)
from tailnet.agent.backend.files.aio import StateStore
from tailnet.agent.backend.login import Host, hostinfo, key_left
from tailnet.agent.backend.loginprofile import LoginProfile, NetworkProfile
from tailnet.agent.backend.prefs import Prefs, apply_masked, validate
from tailnet.agent.backend.store import Stored
from tailnet.agent.control.aio import ControlClient, ControlConfig
from tailnet.agent.control.ask import Answers
from tailnet.agent.control.events import (
    AuthURL,
    Connected,
    ControlEvent,
    Disconnected,
    LoginFailed,
    NetmapChanged,
    PopBrowser,
    Registered,
)
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import UserError
from tailnet.agent.keys import DiscoPrivate, NodePrivate
from tailnet.agent.tailcfg.node import NetInfo, Node, UserProfile
from tailnet.platform.interface import Bypass

log = logging.getLogger("tailnet.account")

LOCKED = "the settings are locked: a configuration file rules; change it, and reload it"


@dataclass(frozen=True, slots=True)
class World:
    """What an account needs from outside: clocks, randomness, sockets' marks, trust."""

    host: Host
    bypass: Bypass
    now: Callable[[], float]
    wall: Callable[[], datetime]
    random_bytes: Callable[[int], bytes]
    ca_file: str | None


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
        self._disco = disco
        self._on_event = on_event
        self._on_change = on_change
        self._answers = answers
        self._stored: Stored = store.load(world.random_bytes)
        # Until a server accepts it this key is only a proposal, and is not on disk.
        self.node_key = self._stored.node_key or self._new_key()
        self._turn = asyncio.Lock()  # one change of account at a time
        self._contact = Contact(self._make_control, self._heard)
        self._auth_key = ""
        self._endpoints: tuple[tuple[AddrPort, int], ...] = ()
        self._net_info: NetInfo | None = None
        self._login_problem = ""
        self._control_problem = ""
        self.netmap: NetworkMap | None = None
        self.auth_url = ""
        self.locked = False
        """A configuration file rules: prefs cannot be changed by commands."""

    # --- what is

    @property
    def prefs(self) -> Prefs:
        """The user's wishes, as on disk."""
        return self._stored.prefs

    @property
    def registered(self) -> bool:
        """A server has accepted this node's key before."""
        return self._stored.node_key is not None

    @property
    def profile(self) -> LoginProfile:
        """The account in use; without id before its login is complete."""
        return profiles.current(self._stored)

    @property
    def profile_id(self) -> str:
        """Of the profile in use, logged in or not."""
        return self._stored.profile_id

    @property
    def profiles(self) -> tuple[LoginProfile, ...]:
        """All accounts, newest first."""
        return profiles.listed(self._stored)

    @property
    def can_continue(self) -> bool:
        """Control gets further without anybody's help."""
        return not self.auth_url and (self._contact.open or self.registered)

    @property
    def login_problem(self) -> str:
        """Why the last attempt to log in failed; empty when it did not."""
        return self._login_problem

    @property
    def control_problem(self) -> str:
        """Why the map stream ended; empty while there is one."""
        return self._control_problem

    # --- wishes

    def configure(self, masked: Mapping[str, object]) -> None:
        """Take prefs from the configuration file, before :meth:`resume`.

        Raises:
            UserError: refused, or not storable.
        """
        prefs = apply_masked(self.prefs, masked)
        self._check(prefs)
        elsewhere = prefs.server_url != self.prefs.server_url and self.registered
        stored = replace(self._blank() if elsewhere else self._stored, prefs=prefs)
        if stored != self._stored:
            self._store.save(stored)
            self._stored = stored
        if elsewhere:
            self.node_key = self._new_key()

    def settle(self) -> None:
        """Bring the state on disk into its form of today.

        Raises:
            UserError: it cannot be written; it is as it was.
        """
        if self._store.stale:
            self._store.save(self._stored)
            log.info("the state is encrypted now")

    def resume(self, auth_key: str) -> None:
        """At a start, or in use again: connect if that is wanted, or if ``auth_key`` is given."""
        if self._contact.open:
            return
        if self.prefs.want_running and self.registered:
            self._connect()
        elif auth_key and not self.registered:
            self._auth_key = auth_key
            self._save(prefs=_connected(self.prefs))
            self._connect()

    def edit(self, masked: Mapping[str, object], *, by_file: bool = False) -> Prefs:
        """Change what the mask names.

        Raises:
            UserError: refused, or not storable; nothing changed.
        """
        if self.locked and not by_file:
            raise UserError(LOCKED)
        prefs = apply_masked(self.prefs, masked)
        self._check(prefs)
        self._save(prefs=prefs)
        if prefs.want_running and not self._contact.open and self.registered:
            self._connect()
        elif not prefs.want_running and self._contact.open:
            self._hang_up()
        self._describe()
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
            self._check(prefs)
            if prefs.server_url != self.prefs.server_url and self.registered:
                self._replace(replace(self._blank(), prefs=_connected(prefs)))
            else:
                self._save(prefs=_connected(prefs))
                self._hang_up()
            await self._contact.close()
            self._auth_key = auth_key
            self._connect()
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
        elif not self._contact.open:
            self._connect()
        elif self.registered and not self._contact.fresh:
            self._contact.renew()

    async def logout(self) -> None:
        """Expire the key at the server if it can be reached; the profile goes in any case.

        Raises:
            UserError: the state cannot be written.
        """
        async with self._turn:
            if self.registered:
                await self._contact.logout()
            await self._use(profiles.dropped(self._stored, self._world.random_bytes))

    # --- several accounts

    async def switch(self, profile_id: str) -> None:
        """Use another account, and :meth:`resume` it; the one in use stays as it is.

        Raises:
            UserError: there is none of that id, or it cannot be used; nothing changed.
        """
        async with self._turn:
            self._check_unlocked()
            chosen = profiles.switched(self._stored, profile_id, self._world.random_bytes)
            if chosen is not self._stored:
                await self._use(chosen)

    async def new_profile(self) -> None:
        """Use a new, empty account; one that has no login yet is emptied.

        Raises:
            UserError: refused, or not storable; nothing changed.
        """
        async with self._turn:
            self._check_unlocked()
            await self._use(self._blank())

    async def delete(self, profile_id: str) -> None:
        """Forget an account and its keys; the server is not told.

        Raises:
            UserError: there is none of that id, or it cannot be written; nothing changed.
        """
        async with self._turn:
            self._check_unlocked()
            left = profiles.removed(self._stored, profile_id, self._world.random_bytes)
            if left.profile_id != self.profile_id:
                await self._use(left)
            else:
                self._write(left)

    async def _use(self, stored: Stored) -> None:
        self._replace(stored)
        await self._contact.close()
        self._on_event(PrefsChanged(self.prefs))
        self._on_change()

    def _replace(self, stored: Stored) -> None:
        """Be another profile: on disk first, then here.  All at once, so that nobody sees half.

        Raises:
            UserError: it cannot be written; nothing changed.
        """
        removed = self._removed(stored)
        self._store.save(stored)
        self._hang_up()
        self._stored = stored
        self.node_key = stored.node_key or self._new_key()
        self.netmap = None
        self._auth_key = ""
        self._on_event(ProfileChanged(stored.profile_id, removed))

    def _write(self, stored: Stored) -> None:
        """Save, and tell if other profiles are gone."""
        removed = self._removed(stored)
        self._store.save(stored)
        self._stored = stored
        if removed:
            self._on_event(ProfileChanged(stored.profile_id, removed))

    def _removed(self, stored: Stored) -> frozenset[str]:
        left = {profile.id for profile in profiles.listed(stored)}
        return frozenset({profile.id for profile in self.profiles} - left)

    def _blank(self) -> Stored:
        return profiles.blank(self._stored, self._world.random_bytes)

    def _check(self, prefs: Prefs) -> None:
        validate(prefs)
        profiles.check_nickname(self._stored, prefs.profile_name)

    def _check_unlocked(self) -> None:
        if self.locked:
            raise UserError(LOCKED)

    def describe(
        self, endpoints: tuple[tuple[AddrPort, int], ...], net_info: NetInfo | None
    ) -> None:
        """Where this node can be reached; control hears of it if it is news."""
        self._endpoints = endpoints
        self._net_info = net_info
        self._describe()

    async def set_dns(self, name: str, value: str) -> None:
        """Let control publish a TXT record ``_acme-challenge.…`` of this node's name.

        Raises:
            UserError: it does not, cannot be reached, or nobody is logged in.
        """
        await self._contact.set_dns(name, value)

    # --- the control session

    async def close(self) -> None:
        """End everything; keys and prefs are on disk already."""
        self._hang_up()
        await self._contact.close()

    def _hang_up(self) -> None:
        """End the control session; the network map stays."""
        self._login_problem = self._control_problem = self.auth_url = ""
        self._contact.hang_up()

    def _connect(self) -> None:
        # A key that has run out is not worth a try; the new one takes over its node.
        left = key_left(self.netmap, self._world.wall())
        self._contact.connect(fresh=self.registered and left is not None and left <= 0)
        self._describe()

    def _make_control(self, fresh: bool, hear: Hear) -> ControlClient:
        stored, world = self._stored, self._world
        return ControlClient(
            ControlConfig(
                server_url=stored.prefs.server_url,
                machine_key=stored.machine_key,
                node_key=None if fresh else self.node_key,
                old_node_key=self.node_key if fresh else stored.old_node_key,
                lock_key=public_of(stored.lock_key),
                disco_key=public_of(self._disco),
                auth_key=self._auth_key,
                ephemeral=self._store.path is None,
                ca_file=world.ca_file,
                environ=os.environ,
                derp_map=self.netmap.derp_map if self.netmap else None,
            ),
            on_event=hear,
            mark=world.bypass.mark,
            now=world.now,
            wall=world.wall,
            random_bytes=world.random_bytes,
            answers=self._answers,
        )

    def _describe(self) -> None:
        info = hostinfo(self.prefs, self._world.host, self._stored.backend_log_id, self._net_info)
        self._contact.describe(info, self._endpoints)

    def _heard(self, event: ControlEvent) -> None:
        match event:
            case Registered():
                self._accepted(event)
            case AuthURL(url):
                self._must_visit(url)
            case LoginFailed(message, retry_in, pending=pending, final=final):
                log.info("login: %s (trying again in %.1f s)", message, retry_in)
                if not self._contact.accepted:
                    self._login_problem = message
                if final or not pending:  # else the person is still to open the URL
                    self._on_event(LoginRefused(message))
            case PopBrowser(url):
                self._on_event(BrowseToURL(url))
            case Connected():
                self._control_problem = ""
            case Disconnected(reason, retry_in):
                log.info("control: %s (trying again in %.1f s)", reason, retry_in)
                self._control_problem = f"not in contact with the control server: {reason}"
            case NetmapChanged(netmap, full, changed, removed):
                self.netmap = netmap
                self._note_account(netmap)
                self._on_event(NetworkMapChanged(netmap, None if full else changed | removed))
        self._on_change()

    def _note_account(self, netmap: NetworkMap) -> None:
        """The server said who this is; an older profile of the same account is replaced."""
        me, stored = netmap.self_node, self._stored
        network = NetworkProfile(
            magic_dns_name=me.name.partition(".")[2].rstrip("."),
            domain_name=netmap.domain,
            display_name=_display_name(me),
        )
        if (stored.node_id, stored.network) == (me.stable_id, network):
            return
        known = replace(
            stored,
            node_id=me.stable_id,
            network=network,
            created=stored.created or self._world.wall(),
        )
        try:
            self._write(profiles.absorbed(known))
        except UserError as error:
            log.warning("%s", error)
            self._stored = known

    def _must_visit(self, url: str) -> None:
        if not self._contact.fresh and self.registered:
            # The server does not take our key: the node was deleted there, and is no part of the
            # tailnet any more.
            log.info("the control server does not know this node any more: log in again")
            self.netmap = None
        self.auth_url = url
        self._on_event(BrowseToURL(url))

    def _accepted(self, event: Registered) -> None:
        if not self.registered:
            log.info("logged in to %s as %s", self.prefs.server_url, event.login_name)
        self.node_key = event.node_key
        self._login_problem = ""
        self.auth_url = ""
        self._try_save(
            node_key=event.node_key,
            old_node_key=event.old_node_key,
            user_profile=UserProfile(
                id=event.user_id, login_name=event.login_name, display_name=event.display_name
            ),
        )
        self._on_event(LoginFinished())

    # --- memory

    def _new_key(self) -> NodePrivate:
        return NodePrivate.from_random(self._world.random_bytes(32))

    def _save(self, **changes: object) -> None:
        """Replace the stored state, on disk first.

        Raises:
            UserError: it cannot be written; the old state stands.
        """
        stored = replace(self._stored, **changes)  # type: ignore[arg-type]
        if stored != self._stored:
            self._store.save(stored)
            self._stored = stored

    def _try_save(self, **changes: object) -> None:
        """Save what the server told us; a full disk must not end the session."""
        try:
            self._save(**changes)
        except UserError as error:
            log.warning("%s", error)  # the store remembers it for the health list
            self._stored = replace(self._stored, **changes)  # type: ignore[arg-type]


def _display_name(me: Node) -> str:
    """What people call the tailnet; empty if the server does not say.

    Source: tailscale tailcfg/tailcfg.go, NodeAttrTailnetDisplayName.
    """
    values = (me.cap_map or {}).get("tailnet-display-name") or ()
    try:
        return msgspec.json.decode(values[0], type=str) if values else ""
    except msgspec.DecodeError:
        return ""


def _connected(prefs: Prefs) -> Prefs:
    return msgspec.structs.replace(prefs, want_running=True, logged_out=False)
