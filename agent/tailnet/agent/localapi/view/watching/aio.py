"""From what happens to a ``Node`` to the notices of the bus.

Source: tailscale ipn/ipnlocal/local.go, WatchNotificationsAs.
"""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from tailnet.agent import clock
from tailnet.agent.backend.aio import Node
from tailnet.agent.backend.events import (
    BrowseToURL,
    HealthChanged,
    LoginFinished,
    LoginRefused,
    NetworkChanged,
    NetworkMapChanged,
    NodeEvent,
    PrefsChanged,
    ProfileChanged,
    StateChanged,
)
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.localapi.bus import Bus, Subscription
from tailnet.agent.localapi.schema.bus import (
    INITIAL_HEALTH,
    INITIAL_NETMAP,
    INITIAL_PREFS,
    INITIAL_STATE,
    INITIAL_STATUS,
    INITIAL_SUGGESTED_EXIT_NODE,
    PEER_CHANGES,
    PEER_PATCHES,
    PEER_WIREGUARD_STATE,
    WATCH_ENGINE_UPDATES,
    Engine,
    Notify,
)
from tailnet.agent.localapi.schema.status import Status
from tailnet.agent.localapi.view.exitnode import suggested
from tailnet.agent.localapi.view.netmap import netmap_tree, node_tree
from tailnet.agent.localapi.view.shapes import health, prefs_tree
from tailnet.agent.localapi.view.watching.sessions import Sessions, SessionTime
from tailnet.agent.tailcfg.node import NodeID

POLL_EVERY = 2.0  # seconds, for what is no event; local.go NotifyWatchEngineUpdates
POLLED = WATCH_ENGINE_UPDATES | PEER_WIREGUARD_STATE
MAP_EVERY = 1.0  # seconds between two whole maps for those who do not take changes


class Watching:
    """Everybody who watches one node."""

    def __init__(
        self, node: Node, *, version: str, status: Callable[[bool], Awaitable[Status]]
    ) -> None:
        """``status``: with or without peers."""
        self._node = node
        self._version = version
        self._status = status
        self._bus = Bus()
        self._timer: asyncio.TimerHandle | None = None
        self._polling: asyncio.TimerHandle | None = None
        self._sessions = Sessions()
        node.watch(self._publish)

    async def watch(self, mask: int, session_id: str) -> Subscription:
        """A watch that begins with what the mask's ``Initial…`` bits ask for."""
        node = self._node
        status = await self._status(True) if mask & INITIAL_STATUS else None
        first = Notify(version=self._version, session_id=session_id)
        if mask & INITIAL_STATE:
            url = node.account.auth_url or None
            first = replace(first, state=int(node.state), browse_to_url=url)
        if mask & INITIAL_PREFS:
            first = replace(first, prefs=prefs_tree(node.account.prefs, node.account.profile))
        if mask & INITIAL_NETMAP and node.netmap is not None:
            first = replace(first, net_map=netmap_tree(node.netmap))
        if status is not None:
            first = replace(first, initial_status=status)
        if mask & INITIAL_HEALTH:
            first = replace(first, health=health(node.warnings))
        if mask & INITIAL_SUGGESTED_EXIT_NODE and node.netmap is not None:
            best = suggested(node.netmap, node.plan)
            first = replace(first, suggested_exit_node=best.stable_id if best else None)
        if mask & PEER_WIREGUARD_STATE:
            self._look_at_sessions()
            first = replace(first, peer_state=self._sessions.known())
        watcher = self._bus.watch(mask, [first])
        if mask & POLLED and self._polling is None:
            self._poll()
        return watcher

    def publish(self, notify: Notify) -> None:
        """What somebody wants to be told."""
        self._bus.publish(notify)

    def count(self) -> int:
        """How many watch."""
        return len(self._bus)

    def _poll(self) -> None:
        """Tell of traffic and sessions, and again, for as long as somebody wants to know."""
        self._polling = None
        if self._bus.wants(PEER_WIREGUARD_STATE):
            self._look_at_sessions()
        if self._bus.wants(WATCH_ENGINE_UPDATES):
            self._bus.publish(Notify(version=self._version, engine=self._engine()))
        if self._bus.wants(POLLED):
            self._polling = asyncio.get_running_loop().call_later(POLL_EVERY, self._poll)

    def _look_at_sessions(self) -> None:
        """Tell what changed of the peers' sessions."""
        node, now = self._node, clock.wall()
        found: dict[str, SessionTime] = {}
        for peer, entry in (node.plan.peers if node.plan else {}).items():
            session = node.tunnel.session(peer)
            found[entry.node.stable_id] = session.state, node.wall_of(session.last_handshake) or now
        if changed := self._sessions.update(found, now):
            self._bus.publish(Notify(version=self._version, peer_state=changed))

    def _engine(self) -> Engine:
        node = self._node
        activities = [node.tunnel.activity(p) for p in (node.plan.peers if node.plan else {})]
        return Engine(
            r_bytes=sum(a.rx_bytes for a in activities),
            w_bytes=sum(a.tx_bytes for a in activities),
            num_live=sum(1 for a in activities if a.last_received),
            live_derps=len(node.tunnel.live_relays),
        )

    def close(self) -> None:
        """End every watch."""
        for timer in (self._timer, self._polling):
            if timer is not None:
                timer.cancel()
        self._bus.close()

    def _publish(self, event: NodeEvent) -> None:
        notify = Notify(version=self._version)
        match event:
            case StateChanged(state):
                notify = replace(notify, state=int(state))
            case PrefsChanged(prefs):
                notify = replace(notify, prefs=prefs_tree(prefs, self._node.account.profile))
            case LoginFinished():
                notify = replace(notify, login_finished={})
            case BrowseToURL(url):
                notify = replace(notify, browse_to_url=url)
            case LoginRefused(message):
                notify = replace(notify, err_message=message)
            case HealthChanged(warnings):
                notify = replace(notify, health=health(warnings))
            case ProfileChanged():
                # As at a start: no state yet; the prefs come next.
                notify = replace(notify, state=int(self._node.state))
            case NetworkMapChanged(netmap, changed):
                self._map_changed(netmap, changed)
                return
            case NetworkChanged():
                return
        self._bus.publish(notify)

    def _map_changed(self, netmap: NetworkMap, changed: frozenset[NodeID] | None) -> None:
        """Changes to those who take them, and soon a whole map to those who do not."""
        if self._bus.wants(PEER_CHANGES | PEER_PATCHES):
            numbers = netmap.peers if changed is None else changed
            self._bus.publish(
                Notify(
                    version=self._version,
                    self_change=node_tree(netmap.self_node),
                    peers_changed=tuple(
                        node_tree(netmap.peers[n]) for n in numbers if n in netmap.peers
                    ),
                    peers_removed=tuple(int(n) for n in numbers if n not in netmap.peers),
                )
            )
        if self._bus.wants_maps and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(MAP_EVERY, self._whole_map)

    def _whole_map(self) -> None:
        self._timer = None
        if (netmap := self._node.netmap) is not None and self._bus.wants_maps:
            self._bus.publish(Notify(version=self._version, net_map=netmap_tree(netmap)))
