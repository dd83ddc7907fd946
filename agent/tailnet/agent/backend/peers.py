"""Handles of peers: small numbers for node keys."""

from collections.abc import Container

from tailnet.agent.errors import LocalProtocolError
from tailnet.agent.keys import NodePublic, PeerId

LAST = 0x7FFF_FFFF  # a PeerId has at most 31 bits


class PeerIds:
    """Gives each node key a handle; none is ever used for another key."""

    __slots__ = ("_by_key", "_next")

    def __init__(self) -> None:
        self._by_key: dict[NodePublic, PeerId] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._by_key)

    def of(self, key: NodePublic) -> PeerId:
        """The handle of ``key``; the first call makes it.

        Raises:
            LocalProtocolError: all 2³¹ − 1 handles are used.
        """
        peer = self._by_key.get(key)
        if peer is None:
            if self._next > LAST:
                msg = "out of peer handles"
                raise LocalProtocolError(msg)
            peer = self._by_key[key] = PeerId(self._next)
            self._next += 1
        return peer

    def known(self, key: NodePublic) -> PeerId | None:
        """The handle of ``key``, or ``None`` if it has none."""
        return self._by_key.get(key)

    def retain(self, keys: Container[NodePublic]) -> None:
        """Forget every other key; one that comes back later gets a new handle."""
        self._by_key = {key: peer for key, peer in self._by_key.items() if key in keys}
