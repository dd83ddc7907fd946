"""What became of the peers' WireGuard sessions, from one look to the next."""

from collections.abc import Mapping
from datetime import datetime

from tailnet.agent.localapi.schema.bus import PeerSession
from tailnet.agent.wireguard.events import PeerState

SessionTime = tuple[PeerState, datetime]
"""How a session stands, and when its last handshake was."""


class Sessions:
    """Remembers since when each peer's session is as it is, as far as somebody looked."""

    def __init__(self) -> None:
        self._known: dict[str, PeerSession] = {}

    def known(self) -> dict[str, PeerSession]:
        """All but those of peers without any."""
        return {peer: one for peer, one in self._known.items() if one.state != "none"}

    def update(self, found: Mapping[str, SessionTime], now: datetime) -> dict[str, PeerSession]:
        """By stable id, what is new; a peer that is gone has no session.

        A session is there since its handshake, anything else since this look.
        """
        changed = {}
        for peer, (state, handshake) in found.items():
            before = self._known.get(peer, PeerSession())
            since = handshake if state is PeerState.ESTABLISHED else now
            if before.state != state.value:
                changed[peer] = PeerSession(state=state.value, at=since)
        for peer, before in self._known.items():
            if peer not in found and before.state != "none":
                changed[peer] = PeerSession(at=now)
        self._known |= changed
        for peer in [p for p in self._known if p not in found]:
            del self._known[peer]
        return changed
