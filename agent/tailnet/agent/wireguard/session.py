"""What the WireGuard engine and whoever moves packets tell each other about a peer.

The engine makes :class:`Session` values; the data plane keeps them in three slots and reports
:class:`Activity`.  The engine never hears of single packets.
"""

from enum import Flag, auto
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.keys import RelayAddr

Source = AddrPort | ViaAddr | RelayAddr
"""Where a datagram came from: by UDP, by UDP through a peer relay, through DERP."""


class Session(NamedTuple):
    """Transport keys of one completed handshake.

    The data plane keeps three slots per peer (previous, current, next) with WireGuard's rules: an
    initiator's session is current at once; a responder's is next until a packet arrives on it.
    """

    local_index: int
    remote_index: int
    send_key: bytes  # 32 bytes
    receive_key: bytes  # 32 bytes
    created: float
    initiator: bool

    def __repr__(self) -> str:
        role = "initiator" if self.initiator else "responder"
        return f"<Session {self.local_index:#x} {role}>"


class Wake(Flag):
    """What ends a peer's sleep, once."""

    DATA_SENT = auto()
    DATA_RECEIVED = auto()


NO_WAKE = Wake(0)


class Activity(NamedTuple):
    """What happened with a peer; 0.0 is "never".  "Data" excludes keepalives.

    ``unheard_since``: first data sent since the last authenticated packet from the peer.
    ``unanswered_since``: first data received since the last packet sent to the peer.
    """

    last_sent: float
    last_received: float
    last_data_sent: float
    last_data_received: float
    unheard_since: float | None
    unanswered_since: float | None
    send_counter: int  # messages sealed with the current session
    tx_bytes: int  # IP bytes, data only
    rx_bytes: int
    tx_packets: int
    rx_packets: int


IDLE = Activity(0.0, 0.0, 0.0, 0.0, None, None, 0, 0, 0, 0, 0)
