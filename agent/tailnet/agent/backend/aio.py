"""``Node``: one tailnet, and everything that belongs to it.

The login (``Account``) and the packets (``Tunnel``) meet here.  After everything that happens in
either, ``_reconsider`` derives the plan, the state and the health again; nothing else changes them.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tailnet.agent.addr import IPAddress
from tailnet.agent.backend.account.aio import Account
from tailnet.agent.backend.account.line.aio import World
from tailnet.agent.backend.answers.aio import NodeAnswers
from tailnet.agent.backend.attributes import attributes_of
from tailnet.agent.backend.checkup.aio import Checkup, Parts
from tailnet.agent.backend.events import (
    HealthChanged,
    NetworkChanged,
    NetworkMapChanged,
    NodeEvent,
    PrefsChanged,
    ProfileChanged,
    StateChanged,
)
from tailnet.agent.backend.expiry.aio import KeyExpiry
from tailnet.agent.backend.files.aio import ConfigFile, StateStore
from tailnet.agent.backend.follow.aio import Follower, Turn
from tailnet.agent.backend.guests.aio import Guests
from tailnet.agent.backend.health import HealthWarning
from tailnet.agent.backend.hosting.aio import Hosting
from tailnet.agent.backend.idle import idle_plan
from tailnet.agent.backend.introductions.aio import Introductions
from tailnet.agent.backend.kept.accounts.aio import KeptMaps
from tailnet.agent.backend.login import key_left
from tailnet.agent.backend.naming.aio import Naming
from tailnet.agent.backend.network.aio import NetworkWatch
from tailnet.agent.backend.pinger.aio import Pinger
from tailnet.agent.backend.plan import Plan
from tailnet.agent.backend.ruling.aio import Ruling
from tailnet.agent.backend.state import Facts, State, next_state
from tailnet.agent.backend.tunnel.aio import Tunnel
from tailnet.agent.backend.tunnel.interface import System, TunnelSettings
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.dates import Calendar, Dates
from tailnet.agent.dns.resolver.aio import MagicDns
from tailnet.agent.hooks.settings import Hook
from tailnet.agent.keys import DiscoPrivate, PeerId
from tailnet.agent.slices import Steps
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tasks import Tasks
from tailnet.platform.interface import NetworkChange

log = logging.getLogger("tailnet.node")

NO_RELAYS = DERPMap()


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Flags and environment of the daemon that concern one node.

    ``auth_key`` (from ``TS_AUTHKEY``) logs in a node that has no login yet.  ``keep_map``: the last
    network map stays on disk, and is used until the control server answers.  ``config``: the file
    that rules the prefs, if there is one.  ``report_services``: a server that wants to know who
    listens on this machine is told.
    """

    tunnel: TunnelSettings = field(default_factory=TunnelSettings)
    auth_key: str = ""
    ca_file: str | None = None
    keep_map: bool = True
    config: ConfigFile | None = None
    report_services: bool = True


class Node:
    """Start it once; it ends with ``close``."""

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        system: System,
        settings: NodeSettings,
        store: StateStore,
        resolver: MagicDns,
        *,
        now: Callable[[], float],
        wall: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        on_failed: Callable[[str], None],
    ) -> None:
        """Read the state, and the configuration file.

        Raises:
            UserError: one of them cannot be used.
        """
        self._settings = settings
        self._store = store
        self._now = now
        self._dates = Dates(now, wall)
        self._calendar = calendar = Calendar(now, wall)
        self.host_name = system.host.hostname
        self.pinger = Pinger(self)
        self.answers = NodeAnswers(
            self.pinger,
            prefs=lambda: self.account.prefs,
            health=lambda: {w.what.code: w.text for w in self.warnings},
            netmap=lambda: self.netmap,
            wall=wall,
        )
        disco = DiscoPrivate.from_random(random_bytes(32))
        self.account: Account = Account(
            store,
            World(system.host, system.bypass, now, wall, calendar, random_bytes, settings.ca_file),
            disco,
            on_event=self._tell,
            on_change=self._reconsider,
            answers=self.answers,
        )
        self._ruling = Ruling(settings.config, self.account)
        self._key_in_use = self.account.node_key
        self._kept = KeptMaps(
            store,
            self.account,
            keep=settings.keep_map,
            calendar=calendar,
            on_expired=self._kept_expired,
        )
        self._tasks = Tasks()
        self.naming = Naming(resolver)
        guests = Guests(
            self.naming,
            resolver.forwarder,
            at=lambda ip: self.plan.node_at(ip) if self.plan is not None else None,
            plan=lambda: self.plan,
            prefs=lambda: self.account.prefs,
            netmap=lambda: self.netmap,
        )
        self.tunnel = Tunnel(
            system,
            settings.tunnel,
            disco,
            self._key_in_use,
            now=now,
            wall=wall,
            random_bytes=random_bytes,
            on_change=self._reconsider,
            on_failed=on_failed,
            on_session=lambda peer: self._introductions.session_made(peer),  # noqa: PLW0108 - made below
            on_disco_key=lambda peer, key: self._introductions.heard(peer, key),  # noqa: PLW0108
            before_none=self.naming.let_go,
        )
        self._expiry = KeyExpiry(lambda: self.key_left, self._reconsider)
        self.follower = Follower(self._apply, on_done=self._reconsider)
        self._introductions: Introductions = Introductions(
            self.tunnel,
            self.follower,
            netmap=lambda: self.netmap,
            away=lambda: self._kept.since is not None,
            on_news=lambda peer: self._reconsider(alive=peer),
            now=now,
        )
        self.hosting = Hosting(
            self.tunnel,
            guests,
            count=resolver.count_guest,
            look=system.listeners if settings.report_services else None,
            on_change=self._reconsider,
            userspace=system.host.userspace,
        )
        self.network = NetworkWatch(self.tunnel, self.account, self._tell, wall=wall)
        self.state = State.NO_STATE
        self.checkup: Checkup = Checkup(
            Parts(
                store,
                self.account,
                self._ruling,
                self.tunnel,
                self.naming,
                self.follower,
                self.network,
            ),
            state=lambda: self.state,
            kept_since=lambda: self._kept.since,
            on_change=lambda: self._tell(HealthChanged(self.warnings)),
            now=now,
            wall=wall,
            calendar=calendar,
        )
        self.naming.on_change = resolver.on_health = self.checkup.look
        self._watchers: list[Callable[[NodeEvent], None]] = []

    # --- life

    async def start(self) -> None:
        """Open the tunnel; connect if the user wants that.

        Raises:
            PlatformError: no device, no privilege.
            UserError: the state cannot be brought into its form of today.
        """
        self.account.settle()
        self._kept.tidy()
        await asyncio.gather(self._use_kept_map(), self.tunnel.open())
        self.network.start(self.tunnel.make_monitor())
        await self.naming.open(self.tunnel.make_dns())
        self.account.resume(self._ruling.auth_key(self._settings.auth_key))
        self._reconsider()

    async def switch_profile(self, profile_id: str) -> None:
        """Use another account, in place of the one in use.

        Raises:
            UserError: there is none of that id, or it cannot be used; nothing changed.
        """
        if profile_id != self.account.profile_id:
            await self.account.switch(profile_id)
            await self._use_kept_map()
            self.account.resume("")
            self._reconsider()

    async def _use_kept_map(self) -> None:
        if (kept := await self._kept.load()) is not None:
            self.account.use_map(kept)
            self._expiry.arm()

    def _profile_changed(self, event: ProfileChanged) -> None:
        """Nothing of the account before is left: map, plan, routes, state."""
        if self._kept.switch(event.profile_id, event.removed):
            self._introductions.forget()
            self._expiry.arm()
            self.follower.start_over()
            self.state = State.NO_STATE

    async def close(self) -> None:
        """Leave the host as it was found; keys and prefs stay."""
        self.checkup.close()
        self._expiry.close()
        await self._tasks.close()
        await self.network.close()
        await self.follower.close()
        await self.hosting.close()
        await self.naming.close()
        if self._store.path is None and self.account.registered:
            await self.account.logout()  # nobody will ever be this node again
        await self.account.close()
        await self._kept.close()
        await self.tunnel.close()

    async def reload_config(self) -> bool:
        """Read the configuration file again; false if there is none.

        Raises:
            UserError: it says something wrong; everything stays as it was.
        """
        try:
            return await self._ruling.reload()
        finally:
            self._reconsider()

    def hang_up(self) -> None:
        """SIGHUP: read the configuration file again; what is wrong with it is a warning."""
        _ = self._tasks.start("reload", self._ruling.reload_quietly(self._reconsider))

    def forget_kept_map(self) -> None:
        """Remove the network map from the disk; the next one is kept again."""
        self._kept.remove()

    def watch(self, watcher: Callable[[NodeEvent], None]) -> None:
        """Call ``watcher`` with everything that happens from now on."""
        self._watchers.append(watcher)

    # --- what is

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """What the configuration file wants to be run when something happens."""
        return self._ruling.hooks

    @property
    def key_left(self) -> float | None:
        """Seconds until this node's key ends by the server's date; ``None``: never."""
        return key_left(self.netmap, self._calendar.today())

    @property
    def state_path(self) -> Path | None:
        """The state file; ``None``: there is none."""
        return self._store.path

    @property
    def netmap(self) -> NetworkMap | None:
        """The last network map, in use or not."""
        return self.account.netmap

    @property
    def plan(self) -> Plan | None:
        """What is in force for packets; it follows network map and prefs."""
        return self.follower.plan

    @property
    def warnings(self) -> tuple[HealthWarning, ...]:
        """What is wrong, worth showing."""
        return self.checkup.shown

    @property
    def public_key(self) -> str:
        """``nodekey:…`` of the key in use."""
        return str(public_of(self._key_in_use))

    def peer_at(self, ip: IPAddress) -> PeerId | None:
        """The peer whose own address ``ip`` is."""
        return self.plan.peer_at(ip) if self.plan is not None else None

    def age_of(self, at: float) -> float:
        """Seconds since ``at`` on the daemon's clock."""
        return self._now() - at

    def wall_of(self, at: float) -> datetime | None:
        """A time of the daemon's clock as wall time; ``None`` for "never"."""
        return self._dates.of(at) if at else None

    # --- consequences

    def _reconsider(self, alive: PeerId | None = None) -> None:
        """Derive everything from what is; ``alive``: see ``Tunnel.apply``."""
        if self.account.node_key != self._key_in_use:
            self._key_in_use = self.account.node_key
            self.tunnel.set_node_key(self._key_in_use)
        prefs, netmap, tunnel = self.account.prefs, self._usable_map(), self.tunnel
        tunnel.set_derp_map(netmap.derp_map if netmap is not None else NO_RELAYS)
        if netmap is None:
            tunnel.idle = idle_plan(prefs, self._facts())
        self.follower.follow(prefs, netmap, alive)
        self.naming.follow(prefs, netmap, self.follower.exit_node)
        self.naming.set_routed(routed=self.plan is not None and tunnel.routed)
        self._kept.follow()
        tunnel.magicsock.set_told(told=not self.account.control_problem)
        services = self.hosting.follow(prefs, netmap)
        self.account.line.describe(tunnel.endpoints, tunnel.net_info, services)
        self.checkup.look()
        while (state := next_state(self.state, self._facts())) is not self.state:
            log.info("%s → %s", self.state.label, state.label)
            self.state = state
            self._tell(StateChanged(state))
            self.checkup.look()

    def _apply(self, turn: Turn) -> Steps[None]:
        """The packets follow the plan, and the names."""
        yield from self.tunnel.apply(turn.plan, turn.alive)
        yield from self.naming.apply(turn.netmap, turn.changed)

    def _usable_map(self) -> NetworkMap | None:
        """The network map, if it may be acted on."""
        facts = self._facts()
        usable = facts.want_running and not facts.key_expired and facts.machine_authorized
        return self.netmap if usable else None

    def _facts(self) -> Facts:
        account, me = self.account, self.netmap.self_node if self.netmap else None
        left = self.key_left
        return Facts(
            want_running=account.prefs.want_running,
            logged_out=account.prefs.logged_out,
            has_node_key=account.registered,
            has_netmap=me is not None,
            auth_cannot_continue=not account.can_continue,
            key_expired=(left is not None and left <= 0) or (me is not None and me.expired),
            machine_authorized=me is None or me.machine_authorized,
            # Running means that a ping would be answered: tables and routes count, too.
            live_derps=len(self.tunnel.live_relays) if self.plan and self.tunnel.routed else 0,
        )

    def _kept_expired(self, netmap: NetworkMap) -> None:
        self.account.use_map(netmap)
        self.follower.note(None)
        self._reconsider()

    def _tell(self, event: NodeEvent) -> None:
        if isinstance(event, NetworkMapChanged):
            no_deltas = attributes_of(event.netmap.self_node).no_deltas
            self.follower.note(None if no_deltas else event.changed)
            self._kept.note(event.netmap)
            self._introductions.forget()
            self._expiry.arm()
        elif isinstance(event, ProfileChanged):
            self._profile_changed(event)
        elif isinstance(event, PrefsChanged):
            self._kept.want(not event.prefs.no_kept_map)
        elif isinstance(event, NetworkChanged):
            self.checkup.look()
            if event.event.change is NetworkChange.MAJOR:
                self.naming.recompile()
        for watcher in tuple(self._watchers):
            watcher(event)
