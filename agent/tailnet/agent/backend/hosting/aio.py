"""``Hosting``: what this node serves to peers, and what control tells them of it."""

from collections.abc import Callable

from tailnet.agent.backend.guests.aio import Guests, services
from tailnet.agent.backend.listeners.aio import ListenerWatch
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.backend.tunnel.aio import Tunnel
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.peerapi.aio import PeerApi
from tailnet.agent.tailcfg.node import Service
from tailnet.platform.system import Listener


class Hosting:
    """The PeerAPI, and who listens on this machine.

    Args:
        tunnel: where peers come from.
        guests: who may ask what.
        count: called with what became of each question of a peer.
        look: who listens now; ``None``: control is never told.
        on_change: others listen than before.
        userspace: the tunnel has no addresses that could be bound.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of the node
        self,
        tunnel: Tunnel,
        guests: Guests,
        *,
        count: Callable[[str], None],
        look: Callable[[], tuple[Listener, ...]] | None,
        on_change: Callable[[], None],
        userspace: bool,
    ) -> None:
        self._tunnel = tunnel
        self._reports = look is not None
        self._listeners = ListenerWatch(look or tuple, on_change)
        self.peer_api = PeerApi(guests.who, guests.resolve, count, bound=not userspace)

    def follow(self, prefs: Prefs, netmap: NetworkMap | None) -> tuple[Service, ...]:
        """Serve what is wanted in this network, ``None``: none; what control is to tell."""
        asked = netmap is not None and netmap.collect_services and not prefs.shields_up
        self._listeners.want(asked and self._reports)
        self._open_peer_api(netmap)
        return (*services(self.peer_api.listening), *self._listeners.services)

    def _open_peer_api(self, netmap: NetworkMap | None) -> None:
        """Once our addresses are there."""
        if netmap is None or self._tunnel.routed:
            self.peer_api.want(netmap.self_node.ips() if netmap is not None else ())
        self._tunnel.set_open(self.peer_api.listening)

    async def close(self) -> None:
        """Serve nobody any more."""
        await self._listeners.close()
        await self.peer_api.close()
