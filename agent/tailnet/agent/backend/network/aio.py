"""Follows the host's network, and lets all that depends on it follow.

::

    another way out, other addresses   sockets bound anew, paths searched, relays and control asked
    anything else                      measured again; after a sleep relays are asked
    something of ours removed          addresses, routes and rules compared with what is wanted

Sessions are never touched: a peer knows us by its key, not by our address.

Source: tailscale wgengine/userspace.go linkChange; wgengine/magicsock/magicsock.go Rebind.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from tailnet.agent.backend.account.aio import Account
from tailnet.agent.backend.events import NetworkChanged
from tailnet.agent.backend.network.addresses import good_addresses
from tailnet.agent.backend.network.describe import Happened
from tailnet.agent.backend.tunnel.aio import Tunnel
from tailnet.agent.tasks import Tasks
from tailnet.platform.interface import NetworkChange, NetworkEvent, NetworkMonitor, NetworkState

DOCKER = "docker0"
REMEMBERED = 64  # events, for people


class NetworkWatch:
    """From ``start`` to ``close``.

    Attributes:
        state: as last told; ``None`` before the first time.
        recent: the latest events, oldest first.
    """

    def __init__(
        self,
        tunnel: Tunnel,
        account: Account,
        tell: Callable[[NetworkChanged], None],
        *,
        wall: Callable[[], datetime],
    ) -> None:
        """``tell``: others who want to know, after tunnel and account do."""
        self._tunnel = tunnel
        self._account = account
        self._tell = tell
        self._tasks = Tasks()
        self._wall = wall
        self._events = 0
        self.state: NetworkState | None = None
        self.recent: deque[Happened] = deque(maxlen=REMEMBERED)

    def start(self, monitor: NetworkMonitor) -> None:
        """Begin to follow."""
        _ = self._tasks.start("network", self._follow(monitor.events()))

    async def close(self) -> None:
        """Follow no more."""
        await self._tasks.close()

    @property
    def connected(self) -> bool | None:
        """There is an address to send from; ``None``: nobody knows yet."""
        return None if self.state is None else self.state.connected

    @property
    def runs_docker(self) -> bool:
        """Docker's own bridge is there.

        Source: tailscale wgengine/router/osrouter/router_linux.go,
        updateStatefulFilteringWithDockerWarning.
        """
        return self.state is not None and DOCKER in self.state.interfaces

    async def _follow(self, events: AsyncIterator[NetworkEvent]) -> None:
        async for event in events:
            self._handle(event)

    def _handle(self, event: NetworkEvent) -> None:
        before, self.state = self.state, event.state
        self._events += 1
        self.recent.append(Happened(self._events, self._wall(), event))
        good = good_addresses(before, event.state)
        match event.change:
            case NetworkChange.TUNNEL:
                self._tunnel.repair()
            case NetworkChange.MAJOR:
                self._tunnel.network_changed(good)
                self._account.line.network_changed(good)
            case NetworkChange.MINOR:
                if event.slept or not event.state.connected:
                    self._tunnel.check_relays(good)
                self._tunnel.host_changed()
                self._tunnel.restun()
        self._tell(NetworkChanged(event))
