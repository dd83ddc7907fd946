"""The last network map, in the form it has on disk: JSON, one object a line.

::

    {"Version": 1, "At": "2026-03-01T…Z", "Server": "https://…", "Skew": 0.0, "Peers": 2,
     "Map": {a MapResponse without peers}}
    {"ID": 2, "Key": "nodekey:…", …}
    {"ID": 3, "Key": "nodekey:…", …}
    {"Gone": [3]}

A line a peer, so that neither writing nor reading ever holds the interpreter for long.  The number
of peers in the first line tells a whole file from a part of one.  Lines after that many strike
peers out that left since the file was written.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import field

from tailnet.agent.control.fold import Folder
from tailnet.agent.control.netmap import NetworkMap
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePublic
from tailnet.agent.tailcfg.codec import Struct, decode_untrusted, encode
from tailnet.agent.tailcfg.mapping import MapResponse
from tailnet.agent.tailcfg.node import CapMap, Node, NodeID

VERSION = 1
MAX_BYTES = 128 << 20  # of the file
MAX_PEERS = 100_000
MOST_AHEAD = 1e9  # seconds that a clock is taken to be ahead; a file may say anything
FORBIDDEN = "disable-cache-network-maps"  # node capability


class _Head(Struct, frozen=True):
    version: int = 0
    at: datetime | None = None
    server: str = ""
    skew: float = 0.0
    peers: int = 0
    map: MapResponse = field(default_factory=MapResponse)


class _Struck(Struct, frozen=True):
    gone: tuple[NodeID, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptMap:
    """What was known, and when.

    Attributes:
        at: when it was written, by the server's date.
        server: URL of the control server it is from.
        ahead: how far the server was ahead of this machine then [s].
        message: the whole map as one message of a stream.
    """

    at: datetime
    server: str
    ahead: float
    message: MapResponse

    @property
    def node_key(self) -> NodePublic | None:
        """Whose map it is."""
        return self.message.node.key if self.message.node is not None else None

    def date(self, wall: datetime) -> datetime:
        """The server's date, at least; ``wall`` is the date of this machine.

        Who knows nothing better lets nobody expire too early: the server says who has.  So a clock
        that was ahead is taken to be so still, and one that was behind to be right now.
        """
        return max(self.at, wall - timedelta(seconds=min(max(-self.ahead, 0.0), MOST_AHEAD)))

    def fold(self, today: datetime) -> Folder:
        """The map as a stream would have made it; who has expired meanwhile is marked."""
        folder = Folder()
        folder.fold(self.message, today)
        return folder


def may_keep(netmap: NetworkMap) -> bool:
    """The server does not forbid it."""
    caps: CapMap = netmap.self_node.cap_map or {}
    return FORBIDDEN not in caps


def encode_lines(netmap: NetworkMap, server: str, at: datetime, ahead: float) -> Iterator[bytes]:
    """The file's lines.

    What the server says of our health is left out: it is not true later.
    """
    head = _Head(
        version=VERSION,
        at=at.astimezone(UTC),
        server=server,
        skew=ahead,
        peers=len(netmap.peers),
        map=MapResponse(
            node=netmap.self_node,
            derp_map=netmap.derp_map,
            dns_config=netmap.dns,
            domain=netmap.domain,
            packet_filter=netmap.packet_filter,
            user_profiles=tuple(netmap.user_profiles.values()),
        ),
    )
    yield encode(head) + b"\n"
    for peer in netmap.in_order():
        yield encode(peer) + b"\n"


def encode_struck(gone: Collection[NodeID]) -> bytes:
    """The line to append when these peers have left."""
    return encode(_Struck(gone=tuple(gone))) + b"\n"


def decode_lines_untrusted(data: bytes) -> KeptMap:
    """Parse a file.

    Raises:
        BadPacket: damaged, cut off, or of another version.
    """
    if len(data) > MAX_BYTES:
        msg = f"it is larger than {MAX_BYTES >> 20} MiB"
        raise BadPacket(msg)
    first, _, rest = data.partition(b"\n")
    head = decode_untrusted(first, _Head)
    if head.version != VERSION:
        msg = f"it has version {head.version}; this one reads {VERSION}"
        raise BadPacket(msg)
    lines = rest.splitlines()
    if not 0 <= head.peers <= min(len(lines), MAX_PEERS) or data[-1:] != b"\n":
        msg = "it is not complete"
        raise BadPacket(msg)
    if head.at is None or head.at.tzinfo is None or head.map.node is None or head.map.peers:
        msg = "its first line lacks something"
        raise BadPacket(msg)
    struck = [decode_untrusted(line, _Struck).gone for line in lines[head.peers :]]
    gone = frozenset().union(*struck)
    known = (decode_untrusted(line, Node) for line in lines[: head.peers])
    peers = tuple(peer for peer in known if peer.id not in gone)
    message = MapResponse(
        node=head.map.node,
        peers=peers or None,
        derp_map=head.map.derp_map,
        dns_config=head.map.dns_config,
        domain=head.map.domain,
        packet_filter=head.map.packet_filter,
        user_profiles=head.map.user_profiles,
    )
    return KeptMap(at=head.at, server=head.server, ahead=head.skew, message=message)


def map_path(state: Path, profile_id: str) -> Path:
    """Where a profile's map is kept: next to the state file."""
    return state.with_name(f"{state.stem}.{profile_id}.netmap")


def in_words(seconds: float) -> str:
    """A span of time as people say it: ``45 s``, ``12 min``, ``3 h``, ``2 days``."""
    minutes = max(0, int(seconds)) // 60
    if not minutes:
        return f"{max(0, int(seconds))} s"
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
