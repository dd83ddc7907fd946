"""What is counted, at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tailnet.agent.datapath.interface import Carried
from tailnet.agent.relay.server import Versions


class PeerFacts(NamedTuple):
    """One peer.

    Attributes:
        name: its whole name, without the dot at the end.
        path: as in ``GET path``, ``Kind``.
        latency: of the last pong on the path in use [s].
        switches: changes of its path.
        handshakes: that made a session.
        last_handshake: Unix time [s]; 0: never.
        last_used: later is more recent; 0: never.
        rx_bytes, tx_bytes: of IP.
    """

    name: str
    path: str
    latency: float | None = None
    switches: int = 0
    handshakes: int = 0
    last_handshake: float = 0.0
    last_used: float = 0.0
    rx_bytes: int = 0
    tx_bytes: int = 0


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """This node.

    Attributes:
        version, datapath: for people.
        state: the backend's.
        traffic: by kind of path.
        drops: by layer and reason.
        warnings: severity by code, of those that show.
        advertised, approved: routes of ours.
        home: region of the home relay; 0: none.
        relays: connected ones.
        relay_latency: by region [s].
        control_up: the control server has no complaint and gives none.
        key_left: seconds until the node key ends; ``None``: never.
        peers: all of them.
        dns: under upstream's names.
        forwarded, forwarded_bytes: as a peer relay, by IP version in and out.
        relay_sessions: as a peer relay: bound at both ends, and the others; ``None``: it is none.
    """

    version: str = ""
    datapath: str = ""
    state: str = "NoState"
    traffic: Mapping[str, Carried] = field(default_factory=dict)
    drops: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)
    advertised: int = 0
    approved: int = 0
    home: int = 0
    relays: int = 0
    relay_latency: Mapping[int, float] = field(default_factory=dict)
    control_up: bool = False
    key_left: float | None = None
    peers: tuple[PeerFacts, ...] = ()
    dns: Mapping[str, int] = field(default_factory=dict)
    forwarded: Mapping[Versions, int] = field(default_factory=dict)
    forwarded_bytes: Mapping[Versions, int] = field(default_factory=dict)
    relay_sessions: tuple[int, int] | None = None


class ProcessFacts(NamedTuple):
    """The daemon's process.

    Attributes:
        cpu: seconds of both kinds.
        memory: resident [bytes].
        descriptors, tasks, watchers: open now.
        started: Unix time [s].
        collected: objects the garbage collector looked at, by generation.
    """

    cpu: float
    memory: int
    descriptors: int
    tasks: int
    watchers: int
    started: float
    collected: tuple[int, ...] = ()
