"""The seam to the packets.

A fast path that knows only tables, and a slow path (the rest of the agent) that fills them.  The
implementation owns the TUN and UDP descriptors and may serve them from threads of its own, so:

* every setter takes the whole wanted state of one thing and may be called at any time from the
  event loop; it never blocks on packets;
* nothing calls back.  What the fast path cannot decide becomes an :data:`Upcall` in a bounded
  queue; :meth:`Datapath.event_fd` is readable while the queue is not empty;
* no upcall is made per packet, except for traffic that leaves through a relay, and that is batched.
  WireGuard's timers are lazy: the slow path reads :class:`Activity` when a timer would fire, and
  asks for a one-shot :class:`Woke` when it goes to sleep.

Times are seconds of ``tailnet.agent.clock.now``.  Sealed datagrams are WireGuard messages as on the
wire; packets are IP packets as on the TUN device, without a virtio-net header.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from tailnet.agent.addr import AddrPort, IPAddress, IPNetwork, ViaAddr
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import NodePublic, PeerId
from tailnet.agent.wireguard.session import Activity, Session, Wake

__all__ = [
    "NO_PATH",
    "QUEUE_PACKETS",
    "UPCALL_LIMIT",
    "About",
    "Activity",
    "Carried",
    "Confirmed",
    "Datapath",
    "Disco",
    "Failed",
    "Handshake",
    "NewSource",
    "NoSession",
    "Path",
    "PathFailed",
    "PeerEntry",
    "RelayOut",
    "Session",
    "Stun",
    "ToAgent",
    "TunPort",
    "UdpPort",
    "Upcall",
    "Wake",
    "Woke",
]

QUEUE_PACKETS = 128  # packets that wait for a session, per peer; the oldest is dropped
UPCALL_LIMIT = 4096  # upcalls that wait for the slow path


class About(NamedTuple):
    """Which implementation this is: ``native`` or ``reference``, its version, and who ciphers."""

    name: str
    version: str
    aead: str


class Carried(NamedTuple):
    """IP packets and their bytes over one kind of path; inbound ones have authenticated."""

    in_packets: int = 0
    in_bytes: int = 0
    out_packets: int = 0
    out_bytes: int = 0


class TunPort(NamedTuple):
    """The TUN device.  ``fd`` is non-blocking and belongs to the datapath from now on.

    ``vnet_hdr``: packets carry a 10-byte virtio-net header and may be super-packets when read;
    ``tso``, ``uso``: TCP and UDP super-packets may be written; ``more``: descriptors of further
    queues of the device, at most 254 in all.  The kernel keeps a flow on the queue that answers to
    it are written to: that must not change while packets of the flow wait, lest some overtake.
    """

    fd: int
    mtu: int
    vnet_hdr: bool
    uso: bool
    tso: bool = True
    more: tuple[int, ...] = ()

    @property
    def queues(self) -> tuple[int, ...]:
        """All descriptors."""
        return (self.fd, *self.more)


class UdpPort(NamedTuple):
    """A bound, unconnected, non-blocking UDP socket; the datapath owns ``fd`` from now on."""

    fd: int
    family: int  # socket.AF_INET or AF_INET6
    gso: bool  # UDP_SEGMENT works
    gro: bool  # UDP_GRO is set on it
    sentinel: bool = False  # groups end in a datagram of one byte, lest all of them are equal


class Path(NamedTuple):
    """Where sealed datagrams to a peer go: by UDP, through its relay, or both at once.

    By UDP is directly, or through a peer relay with a Geneve header before each.  Both is normal
    while the path by UDP is not trusted; the receiver's replay window takes one.
    """

    udp: AddrPort | ViaAddr | None
    relay: bool


NO_PATH = Path(None, relay=False)


class PeerEntry(NamedTuple):
    """``allowed``: destinations routed to the peer, and the only sources it may use.

    ``masquerade``: pairs of an address of ours and the one that this peer knows instead, at most
    one of each family.  Ours becomes the other in what leaves to the peer, and back again in what
    comes, before the filter looks; flows and copies for ``set_tap`` have our own.
    """

    allowed: tuple[IPNetwork, ...]
    masquerade: tuple[tuple[IPAddress, IPAddress], ...] = ()


# --- upcalls -----------------------------------------------------------------


class NoSession(NamedTuple):
    """Packets wait for a session.  Once per peer until ``set_session`` or ``discard_queue``."""

    peer: PeerId


class Handshake(NamedTuple):
    """A WireGuard initiation, response or cookie reply, not yet verified."""

    src: AddrPort | ViaAddr
    data: bytes


class Disco(NamedTuple):
    """A datagram that looks like disco; from a peer relay, without the Geneve header."""

    src: AddrPort | ViaAddr
    data: bytes


class Stun(NamedTuple):
    """A datagram that looks like a STUN binding response."""

    src: AddrPort
    data: bytes


class RelayOut(NamedTuple):
    """Sealed datagrams to a peer whose path says relay, in order."""

    peer: PeerId
    datagrams: list[bytes]


class Confirmed(NamedTuple):
    """The first packet arrived on a responder's session; it is current now."""

    peer: PeerId
    local_index: int


class Woke(NamedTuple):
    """A one-shot wake asked for with ``set_wake`` happened at ``now``."""

    peer: PeerId
    wake: Wake


class NewSource(NamedTuple):
    """An authenticated datagram came directly from a source other than the peer's path."""

    peer: PeerId
    src: AddrPort


class PathFailed(NamedTuple):
    """The kernel refused to send to the peer's path by UDP; once until the next ``set_path``."""

    peer: PeerId
    dst: AddrPort | ViaAddr
    errno: int


class ToAgent(NamedTuple):
    """A packet from a peer that the daemon itself must answer: TSMP (IP protocol 99)."""

    peer: PeerId
    packet: bytes


class Failed(NamedTuple):
    """A descriptor died; the datapath has stopped.  ``reason`` is for the log."""

    reason: str


Upcall = (
    NoSession
    | Handshake
    | Disco
    | Stun
    | RelayOut
    | Confirmed
    | Woke
    | NewSource
    | PathFailed
    | ToAgent
    | Failed
)


class Datapath(Protocol):
    """What reference and native implement; one contract suite runs on both.

    Attributes:
        threaded: each queue of the device has a thread of its own; more than one pays.
    """

    threaded: bool

    @property
    def about(self) -> About:
        """For people."""

    def start(self, tun: TunPort, udp: Sequence[UdpPort]) -> None:
        """Take the descriptors and begin.  Once per object."""

    def set_service(self, fd: int) -> None:
        """Give the services of the daemon their packets.  Before ``start``, which is not needed.

        What the operating system sends to a service address goes to this non-blocking packet
        socket, and what comes back from it goes to the operating system: one message is one packet
        (or super-packet) behind a virtio-net header.  Without it such packets are dropped.  Peers
        can never send or receive any.  The datapath owns ``fd`` from now on.
        """

    def set_sites(self, fd: int | None) -> None:
        """Give a stack what peers send to sites (4via6), from now on; ``None``: the host.

        What was accepted and is for fd7a:115c:a1e0:b1a::/64 goes to this non-blocking packet socket
        instead of the device, in the shape of :meth:`set_service`; what comes back from it goes to
        peers, as if the operating system sent it.  The datapath owns ``fd`` from now on.
        """

    def set_tap(self, fd: int | None) -> None:
        """Copy every packet to a packet socket from now on; ``None``: no more.

        The datapath never waits for it: what is not taken in time is counted.  ``tap`` says what a
        message looks like.  The datapath owns ``fd`` from now on.
        """

    def set_udp(self, udp: Sequence[UdpPort]) -> None:
        """Replace the sockets after a rebind; the old ones are closed."""

    def stop(self) -> None:
        """Stop and close everything taken.  Idempotent."""

    def event_fd(self) -> int:
        """Readable while upcalls wait; valid until the object is dropped."""

    def take_upcalls(self, limit: int) -> list[Upcall]:
        """At most ``limit`` upcalls, oldest first."""

    # tables

    def set_peers(self, peers: Mapping[PeerId, PeerEntry]) -> None:
        """All peers.  Longest prefix wins; a gone peer loses sessions, path, queue and counters."""

    def change_peers(self, changed: Mapping[PeerId, PeerEntry | None]) -> None:
        """As ``set_peers`` with the peers of before, these changed; ``None`` removes one.

        A new peer counts as the last of the mapping, a changed one keeps its place.
        """

    def set_local(self, prefixes: Sequence[IPNetwork]) -> None:
        """Destinations that inbound packets may have: own addresses and advertised routes.

        Without any there is no network, and no flow of the one before is remembered.
        """

    def set_filter(self, packet_filter: Filter) -> None:
        """Rules for inbound packets.  Flow state is kept.  Before the first call nothing enters."""

    def set_public_key(self, public: NodePublic) -> None:
        """Our own key; handshake messages whose first MAC is for another are dropped unseen."""

    def set_path(self, peer: PeerId, path: Path) -> None:
        """Where to send from now on."""

    # sessions

    def set_session(self, peer: PeerId, session: Session) -> None:
        """Add a session; an initiator's flushes the peer's queue (or sends a keepalive)."""

    def drop_session(self, local_index: int) -> None:
        """Forget one session, in whichever slot it is."""

    def discard_queue(self, peer: PeerId) -> None:
        """The handshake was given up: drop what waits."""

    def send_keepalive(self, peer: PeerId) -> None:
        """Send an empty packet on the current session, if there is one."""

    def set_wake(self, peer: PeerId, wake: Wake) -> None:
        """Ask for one :class:`Woke` at the next such packet; asks add up until they fire."""

    # packets of the slow path

    def send_udp(self, dst: AddrPort, datagrams: Sequence[bytes]) -> int:
        """Send disco, STUN or handshakes as they are.  Returns 0 or an errno; never raises."""

    def relay_in(self, datagrams: Sequence[bytes]) -> None:
        """Sealed transport messages that came through a relay."""

    def send_plain(self, peer: PeerId, packets: Sequence[bytes]) -> None:
        """Packets made by the daemon, to a peer: no filter verdict, but flow state is noted."""

    # what happened

    def activity(self, peer: PeerId) -> Activity:
        """Times and counters of one peer; all zero for an unknown one."""

    def drops(self) -> dict[str, int]:
        """Packets dropped, by reason (a fixed set of names, all present)."""

    def traffic(self) -> dict[str, Carried]:
        """What was carried since the start, by kind of path (a fixed set, all present).

        The kinds are upstream's: direct_ipv4, direct_ipv6, derp, peer_relay_ipv4, peer_relay_ipv6.
        Outbound by the path set, which is by UDP where it is both; inbound by how it came.
        """
