"""What the data plane needs of the network under it; magicsock provides it.

The data plane knows peers and sealed datagrams; the underlay knows addresses, relays and disco.
Every method returns at once and never raises for network reasons.
"""

from collections.abc import Sequence
from typing import Protocol

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.keys import PeerId, RelayAddr
from tailnet.agent.wireguard.session import Source


class Overlay(Protocol):
    """Whom the underlay hands things to."""

    def catch_up(self) -> None:
        """Handle what came by UDP now, before something else that just came."""

    def handle_relayed(self, src: RelayAddr, datagrams: Sequence[bytes]) -> None:
        """WireGuard messages that came through a relay."""


class Underlay(Protocol):
    """Paths to peers."""

    def send(self, peer: PeerId, datagram: bytes) -> None:
        """Send a handshake message by the best path known, relay included while it is untrusted.

        Returns when it has left; :meth:`note_data_sent`, which starts path discovery, comes soon
        after.
        """

    def begin(self, peer: PeerId, initiation: bytes) -> None:
        """Start path discovery, as :meth:`note_data_sent`, and send the message that needs it.

        Where no path is known the message goes with the pings, too.
        """

    def send_to(self, dst: Source, datagram: bytes) -> None:
        """Answer whoever sent a datagram (cookie replies), without any peer."""

    def relay_out(self, peer: PeerId, datagrams: Sequence[bytes]) -> None:
        """Sealed transport messages for the peer's relay, in order; sent by :meth:`flush`."""

    def flush(self) -> None:
        """Nothing more comes in this turn: what waits for relays may go."""

    def handle_disco(self, src: AddrPort | ViaAddr, data: bytes) -> None:
        """A datagram that looks like disco came by UDP."""

    def handle_stun(self, src: AddrPort, data: bytes) -> None:
        """A datagram that looks like a STUN response came by UDP."""

    def note_data_sent(self, peer: PeerId) -> None:
        """Data left for a peer that had been silent: its path is wanted again."""

    def is_direct(self, peer: PeerId) -> bool:
        """Data for the peer needs no relay now."""

    def note_source(self, peer: PeerId, src: AddrPort) -> None:
        """An authenticated WireGuard message of this peer came from ``src`` by UDP."""

    def path_failed(self, peer: PeerId, dst: AddrPort | ViaAddr, errno: int) -> None:
        """The kernel refuses to send to the peer's path by UDP."""
