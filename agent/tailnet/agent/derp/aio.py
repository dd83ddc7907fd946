"""The relays' shell: connections to DERP regions, their tasks and timers."""

import socket
from collections.abc import Callable, Sequence

from tailnet.agent.errors import LocalProtocolError
from tailnet.agent.keys import NodePrivate, NodePublic
from tailnet.agent.tailcfg.derpmap import DERPMap


class DerpFleet:
    """Keeps the home relay connected, and others while they are used."""

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        node_key: NodePrivate,
        *,
        on_packets: Callable[[int, NodePublic, list[bytes]], None],
        on_live: Callable[[frozenset[int]], None],
        mark: Callable[[socket.socket], None],
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        ca_file: str | None = None,
        plain_http: bool = False,
    ) -> None:
        self._node_key = node_key
        self._on_packets = on_packets
        self._on_live = on_live
        self._mark = mark
        self._now = now
        self._random_bytes = random_bytes
        self._ca_file = ca_file
        self._plain_http = plain_http

    def start(self) -> None:
        """Begin to connect; needs a running event loop."""

    def set_map(self, derp_map: DERPMap) -> None:
        """Take a new map: connections to regions that went or changed are closed."""

    def set_home(self, region: int) -> None:
        """The region others find this node at; 0 is none."""

    def send(self, region: int, dst: NodePublic, datagrams: Sequence[bytes]) -> None:
        """Relay datagrams to a node whose home is ``region``; 0 means unknown.  Never blocks."""

    def live(self) -> frozenset[int]:
        """Regions whose relay has accepted this node."""
        return frozenset()

    def set_node_key(self, key: NodePrivate) -> None:
        """Become another node: everything reconnects."""

    def link_changed(self) -> None:
        """The network moved: connections that do not answer within 3 s are closed."""

    def drops(self) -> dict[str, int]:
        """Packets not sent, by reason."""
        return {}

    async def close(self) -> None:
        """Close every connection."""
        raise LocalProtocolError
