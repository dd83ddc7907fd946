"""What the fast path knows: peers, their sessions and paths, and who owns which destination."""

from collections import deque
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address

from tailnet.agent.addr import IPNetwork, ViaAddr
from tailnet.agent.crypto.inplace import InPlace
from tailnet.agent.datapath.interface import (
    NO_PATH,
    QUEUE_PACKETS,
    Activity,
    Path,
    PeerEntry,
    Session,
    Wake,
)
from tailnet.agent.datapath.reference.bucket import REJECTS, Bucket
from tailnet.agent.datapath.reference.masquerade import Masquerade
from tailnet.agent.datapath.reference.prefixes import Prefixes
from tailnet.agent.datapath.reference.traffic import DERP, Traffic, kind
from tailnet.agent.disco import geneve
from tailnet.agent.keys import PeerId
from tailnet.agent.wireguard.constants import REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME
from tailnet.agent.wireguard.keypairs import Keypairs
from tailnet.agent.wireguard.replay import ReplayWindow
from tailnet.agent.wireguard.session import NO_WAKE

TRANSPORT = 4  # message type; the first 8 bytes of a message are type | index << 32, little-endian

SockAddr = tuple[str, int]


class Keys:
    """One session, ready to use.

    ``outer`` and ``inner`` are the first 8 bytes, as a number, of messages we send and receive.
    """

    __slots__ = (
        "counter",
        "expires",
        "index",
        "inner",
        "open_into",
        "outer",
        "peer",
        "replay",
        "seal_into",
        "unconfirmed",
    )

    def __init__(self, peer: "Peer", session: Session) -> None:
        self.peer = peer
        self.index = session.local_index
        self.inner = TRANSPORT | session.local_index << 32
        self.outer = TRANSPORT | session.remote_index << 32
        self.seal_into = InPlace(session.send_key).seal_into
        self.open_into = InPlace(session.receive_key).open_into
        self.replay = ReplayWindow()
        self.counter = 0
        self.expires = session.created + REJECT_AFTER_TIME
        self.unconfirmed = not session.initiator


class Peer:
    """Everything about one peer."""

    __slots__ = (
        "allowed",
        "asked",
        "family",
        "head",
        "id",
        "keys",
        "last_data_received",
        "last_data_sent",
        "last_received",
        "last_sent",
        "masquerade",
        "path",
        "path_failed",
        "prefixes",
        "queue",
        "rejects",
        "reported",
        "rx_bytes",
        "rx_packets",
        "sockaddr",
        "tx_bytes",
        "tx_packets",
        "unanswered_since",
        "unheard_since",
        "wake",
    )

    def __init__(self, peer_id: PeerId, entry: PeerEntry) -> None:
        self.id = peer_id
        self.keys: Keypairs[Keys] = Keypairs()
        self.queue: deque[bytes] = deque()
        self.asked = False  # NoSession was said
        self.rejects = Bucket(REJECTS)
        self.wake = 0  # bits of Wake: the Flag's own operators are slow
        self.reported: SockAddr | None = None  # latest NewSource
        self.last_sent = self.last_received = 0.0
        self.last_data_sent = self.last_data_received = 0.0
        self.unheard_since: float | None = None
        self.unanswered_since: float | None = None
        self.tx_bytes = self.rx_bytes = self.tx_packets = self.rx_packets = 0
        self.set_entry(entry)
        self.set_path(NO_PATH)

    def set_entry(self, entry: PeerEntry) -> None:
        """Sources the peer may use, and what it calls us."""
        self.allowed = entry.allowed
        self.masquerade = Masquerade(entry.masquerade) if entry.masquerade else None
        self.prefixes: Prefixes[bool] = Prefixes()
        for prefix in entry.allowed:
            self.prefixes.insert(prefix, value=True)

    def set_path(self, path: Path) -> None:
        """Where datagrams go from now on; ``head`` goes before each that leaves by UDP."""
        self.path = path
        self.head = b""
        self.path_failed = False
        self.reported = None
        self.sockaddr: SockAddr | None = None
        self.family = 0
        addr = path.udp
        if isinstance(addr, ViaAddr):
            self.head = geneve.encode(geneve.Header(geneve.Protocol.WIREGUARD, addr.vni))
            addr = addr.relay
        if addr is not None:
            self.sockaddr = (str(addr.ip), addr.port)
            self.family = 6 if isinstance(addr.ip, IPv6Address) else 4

    @property
    def kind(self) -> int | None:
        """What kind of path datagrams take; ``None``: there is none."""
        if self.sockaddr is None:
            return DERP if self.path.relay else None
        return kind(self.family, via=bool(self.head))

    def usable(self, now: float) -> Keys | None:
        """The session to send with, if there is one that is still good."""
        keys = self.keys.current
        if keys is None or now >= keys.expires or keys.counter >= REJECT_AFTER_MESSAGES:
            return None
        return keys

    def enqueue(self, packet: bytes) -> bool:
        """Keep a packet until there is a session; false if the oldest had to go for it."""
        full = len(self.queue) >= QUEUE_PACKETS
        if full:
            self.queue.popleft()
        self.queue.append(packet)
        return not full

    def note_sent(self, now: float, packets: int, size: int) -> Wake:
        """Account for what was sealed; returns the wakes that are due.

        ``packets`` and ``size`` [bytes of IP] are 0 for a keepalive.
        """
        self.last_sent = now
        self.unanswered_since = None
        if not packets:
            return NO_WAKE
        self.last_data_sent = now
        if self.unheard_since is None:
            self.unheard_since = now
        self.tx_packets += packets
        self.tx_bytes += size
        return self._wake(Wake.DATA_SENT) if self.wake else NO_WAKE

    def note_received(self, now: float, packets: int, size: int) -> Wake:
        """The same for what authenticated."""
        self.last_received = now
        self.unheard_since = None
        if not packets:
            return NO_WAKE
        self.last_data_received = now
        if self.unanswered_since is None:
            self.unanswered_since = now
        self.rx_packets += packets
        self.rx_bytes += size
        return self._wake(Wake.DATA_RECEIVED) if self.wake else NO_WAKE

    def _wake(self, happened: Wake) -> Wake:
        due = self.wake & happened.value
        self.wake &= ~due
        return Wake(due)

    def activity(self) -> Activity:
        """A snapshot for the slow path."""
        current = self.keys.current
        return Activity(
            self.last_sent,
            self.last_received,
            self.last_data_sent,
            self.last_data_received,
            self.unheard_since,
            self.unanswered_since,
            current.counter if current else 0,
            self.tx_bytes,
            self.rx_bytes,
            self.tx_packets,
            self.rx_packets,
        )


class Tables:
    """Peers by handle, by destination and by session index; local destinations."""

    __slots__ = ("_claims", "_entries", "local", "peers", "routes", "sessions", "traffic")

    def __init__(self) -> None:
        self.peers: dict[PeerId, Peer] = {}
        self.routes: Prefixes[Peer] = Prefixes()
        self.sessions: dict[int, Keys] = {}  # by Keys.inner
        self.local: Prefixes[bool] = Prefixes()
        self.traffic = Traffic()
        self._entries: dict[PeerId, PeerEntry] = {}
        self._claims = 0  # prefixes of all peers, counted once for each peer

    def set_local(self, prefixes: Sequence[IPNetwork]) -> None:
        """Replace the local destinations."""
        local: Prefixes[bool] = Prefixes()
        for prefix in prefixes:
            local.insert(prefix, value=True)
        self.local = local

    def is_local(self, packed: bytes) -> bool:
        """True for a destination that inbound packets may have."""
        return self.local.lookup(packed) is not None

    def set_peers(self, entries: Mapping[PeerId, PeerEntry]) -> list[Peer]:
        """Make it so, touching only what changed; returns the peers that are gone."""
        gone = [self._remove(peer_id) for peer_id in self._entries.keys() - entries.keys()]
        for peer_id, entry in entries.items():
            self._set_peer(peer_id, entry)
        self._entries = dict(entries)
        self._settle_claims()
        return gone

    def change_peers(self, changed: Mapping[PeerId, PeerEntry | None]) -> list[Peer]:
        """Only these, ``None`` being gone; returns the peers that are gone."""
        gone = []
        for peer_id, entry in changed.items():
            if entry is None and self._entries.pop(peer_id, None) is not None:
                gone.append(self._remove(peer_id))
        for peer_id, entry in changed.items():
            if entry is not None:
                self._set_peer(peer_id, entry)
                self._entries[peer_id] = entry
        self._settle_claims()
        return gone

    def _set_peer(self, peer_id: PeerId, entry: PeerEntry) -> None:
        known = self._entries.get(peer_id)
        if known is entry or known == entry:
            return
        peer = self.peers.get(peer_id)
        if peer is None:
            peer = self.peers[peer_id] = Peer(peer_id, entry)
        else:
            self._unroute(peer)
            peer.set_entry(entry)
        self._route(peer)

    def _settle_claims(self) -> None:
        if self._claims != len(self.routes):
            # Two peers claim one prefix.  The last of the mapping has it, whatever came before.
            self.routes = Prefixes()
            self._claims = 0
            for peer_id in self._entries:
                self._route(self.peers[peer_id])

    def _route(self, peer: Peer) -> None:
        for prefix in set(peer.allowed):
            self.routes.insert(prefix, peer)
            self._claims += 1

    def _unroute(self, peer: Peer) -> None:
        for prefix in set(peer.allowed):
            self.routes.remove(prefix, peer)
            self._claims -= 1

    def _remove(self, peer_id: PeerId) -> Peer:
        peer = self.peers.pop(peer_id)
        self._unroute(peer)
        self.forget(peer.keys.clear())
        return peer

    def forget(self, evicted: Sequence[Keys]) -> None:
        """Take sessions out of the index."""
        for keys in evicted:
            if self.sessions.get(keys.inner) is keys:
                del self.sessions[keys.inner]

    def add_session(self, peer: Peer, session: Session) -> Keys:
        """Put a session into its slot and into the index."""
        keys = Keys(peer, session)
        slots = peer.keys
        add = slots.add_initiator if session.initiator else slots.add_responder
        self.forget(add(keys))
        self.sessions[keys.inner] = keys
        return keys

    def drop_session(self, local_index: int) -> None:
        """Forget one session, in whichever slot it is."""
        keys = self.sessions.pop(TRANSPORT | local_index << 32, None)
        if keys is not None:
            keys.peer.keys.drop(keys)
