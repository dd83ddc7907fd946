"""Telling peers our disco key ourselves, while control cannot.

Source: tailscale wgengine/magicsock/magicsock.go, maybeSendTSMPDiscoAdvert.
"""

from tailnet.agent.addr import IPAddress
from tailnet.agent.backend.peerplan import PeerPlan
from tailnet.agent.keys import PeerId
from tailnet.agent.tailcfg.node import Node

AGAIN = 60.0  # seconds; magicsock.go discoKeyAdvertisementInterval


class Adverts:
    """Who was told, and when; forgotten once control speaks again."""

    def __init__(self) -> None:
        self._told: dict[PeerId, float] = {}

    def forget(self) -> None:
        """Control has told everybody."""
        self._told.clear()

    def due(self, peer: PeerId, now: float) -> bool:
        """The peer was not told for a while."""
        return now - self._told.get(peer, -AGAIN) >= AGAIN

    def tell(
        self, peer: PeerId, entry: PeerPlan, own: Node, now: float
    ) -> tuple[IPAddress, IPAddress] | None:
        """Source and destination of the message, of one family; ``None``: it cannot be told."""
        if entry.info.disco_key.is_zero:
            return None
        for mine in own.ips():
            for theirs in entry.node.ips():
                if mine.version == theirs.version:
                    self._told[peer] = now
                    return mine, theirs
        return None
