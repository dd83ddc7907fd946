"""``Node``: one tailnet, and everything that belongs to it.

The login (``Account``) and the packets (``Tunnel``) meet here.  After everything that happens in
either, ``_reconsider`` derives the plan, the state and the health again; nothing else changes them.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tailnet.agent.addr import IPAddress
from tailnet.agent.backend.account.aio import Account, World
from tailnet.agent.backend.events import HealthChanged, NetworkMapChanged, NodeEvent, StateChanged
from tailnet.agent.backend.files.aio import StateFile
from tailnet.agent.backend.login import key_left
from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.plan import Plan, PlanCache, make_plan
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.state import Facts, State, next_state
from tailnet.agent.backend.tunnel.aio import System, Tunnel, TunnelSettings
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.keys import DiscoPrivate, PeerId
from tailnet.agent.tailcfg.derpmap import DERPMap

log = logging.getLogger("tailnet.node")

EXPIRY_SLACK = 10.0  # seconds after the key's end until the state follows
NO_RELAYS = DERPMap()
LONGEST_TIMER = 86_400.0  # seconds; a wall clock may be set meanwhile


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Flags and environment of the daemon that concern one node.

    ``auth_key`` (from ``TS_AUTHKEY``) logs in a node that has no login yet.
    """

    tunnel: TunnelSettings = field(default_factory=TunnelSettings)
    auth_key: str = ""
    ca_file: str | None = None


class Node:
    """Start it once; it ends with ``close``."""

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        system: System,
        settings: NodeSettings,
        store: StateFile,
        *,
        now: Callable[[], float],
        wall: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        on_failed: Callable[[str], None],
    ) -> None:
        """Read the state file.

        Raises:
            UserError: it cannot be used.
        """
        self._settings = settings
        self._now = now
        self._wall = wall
        self.host_name = system.host.hostname
        disco = DiscoPrivate.from_random(random_bytes(32))
        self.account = Account(
            store,
            World(system.host, system.bypass, now, wall, random_bytes, settings.ca_file),
            disco,
            on_event=self._tell,
            on_change=self._reconsider,
        )
        self._key_in_use = self.account.node_key
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
        )
        self._expiry_timer: asyncio.TimerHandle | None = None
        self._ids = PeerIds()
        self._plan_cache = PlanCache()
        self._planned: tuple[Prefs | None, NetworkMap | None] = (None, None)
        self._watchers: list[Callable[[NodeEvent], None]] = []
        self.plan: Plan | None = None
        self.state = State.NO_STATE
        self.health: tuple[str, ...] = ()

    # --- life

    async def start(self) -> None:
        """Open the tunnel; connect if the user wants that.

        Raises:
            PlatformError: no device, no privilege.
        """
        await self.tunnel.open()
        self.account.resume(self._settings.auth_key)
        self._reconsider()

    async def close(self) -> None:
        """Leave the host as it was found; keys and prefs stay."""
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
        await self.account.close()
        await self.tunnel.close()

    def watch(self, watcher: Callable[[NodeEvent], None]) -> None:
        """Call ``watcher`` with everything that happens from now on."""
        self._watchers.append(watcher)

    # --- what is

    @property
    def netmap(self) -> NetworkMap | None:
        """The last network map, in use or not."""
        return self.account.netmap

    @property
    def public_key(self) -> str:
        """``nodekey:…`` of the key in use."""
        return str(public_of(self._key_in_use))

    def peer_at(self, ip: IPAddress) -> PeerId | None:
        """The peer whose own address ``ip`` is."""
        for peer, entry in (self.plan.peers if self.plan else {}).items():
            if ip in entry.node.ips():
                return peer
        return None

    def age_of(self, at: float) -> float:
        """Seconds since ``at`` on the daemon's clock."""
        return self._now() - at

    def wall_of(self, at: float) -> datetime | None:
        """A time of the daemon's clock as wall time; ``None`` for "never"."""
        return self._wall() - timedelta(seconds=self.age_of(at)) if at else None

    # --- consequences

    def _reconsider(self) -> None:
        """Derive everything from what is."""
        if self.account.node_key != self._key_in_use:
            self._key_in_use = self.account.node_key
            self.tunnel.set_node_key(self._key_in_use)
        prefs, netmap = self.account.prefs, self.netmap if self._usable() else None
        self.tunnel.set_derp_map(netmap.derp_map if netmap is not None else NO_RELAYS)
        if self._planned[0] is not prefs or self._planned[1] is not netmap:
            self._planned = (prefs, netmap)
            self.plan = (
                make_plan(prefs, netmap, self._ids, self._plan_cache)
                if netmap is not None
                else None
            )
            self.tunnel.apply(self.plan)
        self.account.describe(self.tunnel.endpoints, self.tunnel.net_info)
        self._set_health()
        while (state := next_state(self.state, self._facts())) is not self.state:
            log.info("%s → %s", self.state.label, state.label)
            self.state = state
            self._tell(StateChanged(state))

    def _usable(self) -> bool:
        """The network map may be acted on."""
        facts = self._facts()
        return facts.want_running and not facts.key_expired and facts.machine_authorized

    def _facts(self) -> Facts:
        account, me = self.account, self.netmap.self_node if self.netmap else None
        left = self._key_left()
        return Facts(
            want_running=account.prefs.want_running,
            logged_out=account.prefs.logged_out,
            has_node_key=account.registered,
            has_netmap=me is not None,
            auth_cannot_continue=not account.can_continue,
            key_expired=(left is not None and left <= 0) or (me is not None and me.expired),
            machine_authorized=me is None or me.machine_authorized,
            # Running means that a ping would be answered: routes count as much as relays.
            live_derps=len(self.tunnel.live_relays) if self.tunnel.routed else 0,
        )

    def _key_left(self) -> float | None:
        """Seconds until this node's key ends by the server's clock; ``None``: never."""
        return key_left(self.netmap, self._wall())

    def _arm_expiry(self) -> None:
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None
        left = self._key_left()
        if left is not None and left > 0:
            self._expiry_timer = asyncio.get_running_loop().call_later(
                min(left + EXPIRY_SLACK, LONGEST_TIMER), self._on_expiry_timer
            )

    def _on_expiry_timer(self) -> None:
        self._arm_expiry()
        self._reconsider()

    def _set_health(self) -> None:
        own = (*self.account.problems, self.tunnel.router_problem)
        health = (*(p for p in own if p), *(self.plan.health if self.plan else ()))
        if health != self.health:
            self.health = health
            self._tell(HealthChanged(health))

    def _tell(self, event: NodeEvent) -> None:
        if isinstance(event, NetworkMapChanged):
            self._arm_expiry()
        for watcher in tuple(self._watchers):
            watcher(event)
