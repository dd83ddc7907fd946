"""``Introductions``: peers tell each other their disco keys while control cannot."""

import logging
from collections.abc import Callable

from tailnet.agent.backend.adverts import Adverts
from tailnet.agent.backend.follow.aio import Follower
from tailnet.agent.backend.tunnel.aio import Tunnel
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.keys import DiscoPublic, PeerId

log = logging.getLogger("tailnet.node")


class Introductions:
    """Says who we are through new sessions, and believes peers that do.

    Args:
        netmap: the last network map.
        away: control does not speak to us: the map in use is one that was kept.
        on_news: this peer has a disco key that the plan does not know yet.
    """

    def __init__(  # noqa: PLR0913 - each is one thing of the node
        self,
        tunnel: Tunnel,
        follower: Follower,
        *,
        netmap: Callable[[], NetworkMap | None],
        away: Callable[[], bool],
        on_news: Callable[[PeerId], None],
        now: Callable[[], float],
    ) -> None:
        self._tunnel = tunnel
        self._follower = follower
        self._netmap = netmap
        self._away = away
        self._on_news = on_news
        self._now = now
        self._adverts = Adverts()

    def forget(self) -> None:
        """Control has told everybody."""
        self._adverts.forget()

    def session_made(self, peer: PeerId) -> None:
        """A peer that cannot hear of our disco key from control hears it from us."""
        if self._away() and not self._tunnel.has_direct_path(peer):
            self._tell(peer)

    def heard(self, peer: PeerId, key: DiscoPublic) -> None:
        """Believe it until control says something new; it may need ours as well."""
        plan = self._follower.plan
        entry = plan.peers.get(peer) if plan is not None else None
        if entry is None:
            return
        if self._follower.announce(entry.node, key):
            log.debug("peer %d has a new disco key", peer)
            self._on_news(peer)
        if self._adverts.due(peer, self._now()):
            self._tell(peer)

    def _tell(self, peer: PeerId) -> None:
        plan, netmap = self._follower.plan, self._netmap()
        entry = plan.peers.get(peer) if plan is not None else None
        if entry is None or netmap is None:
            return
        ways = self._adverts.tell(peer, entry, netmap.self_node, self._now())
        if ways is not None:
            self._tunnel.messages.tell_disco_key(peer, *ways)
