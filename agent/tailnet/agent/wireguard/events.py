"""What the engine asks of its surroundings."""

from enum import Enum
from typing import NamedTuple

from tailnet.agent.keys import PeerId
from tailnet.agent.wireguard.session import Session, Source, Wake


class Transmit(NamedTuple):
    """A handshake message for a peer, by whatever path there is."""

    peer: PeerId
    datagram: bytes


class Reply(NamedTuple):
    """A cookie reply, back to where a message came from."""

    dst: Source
    datagram: bytes


class InstallSession(NamedTuple):
    """Give the data plane a session.  Before the transmits: answers may follow at once."""

    peer: PeerId
    session: Session


class DropSession(NamedTuple):
    """Make the data plane forget a session; it may have done so already."""

    local_index: int


class SendKeepalive(NamedTuple):
    """Data came and nothing went back for a while."""

    peer: PeerId


class SetWake(NamedTuple):
    """Report the next such packet, once."""

    peer: PeerId
    wake: Wake


class DiscardQueue(NamedTuple):
    """The peer does not answer: drop what waits for it."""

    peer: PeerId


class SourceSeen(NamedTuple):
    """A handshake message of the peer authenticated and came from ``src``."""

    peer: PeerId
    src: Source


class Established(NamedTuple):
    """Both ends have the session: ours was answered, or theirs carried its first packet."""

    peer: PeerId


Event = (
    InstallSession | DropSession | SendKeepalive | SetWake | DiscardQueue | SourceSeen | Established
)


class PeerState(Enum):
    """Where a peer stands."""

    NONE = "none"
    HANDSHAKE = "handshake"
    ESTABLISHED = "established"
    EXPIRED = "expired"


class PeerStatus(NamedTuple):
    """For people."""

    last_handshake: float  # 0.0 is never
    state: PeerState
    handshakes: int = 0  # that made a session


NO_STATUS = PeerStatus(0.0, PeerState.NONE)
