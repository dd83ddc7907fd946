"""What the slow path tells the fast one, as far as no descriptor is needed."""

from collections.abc import Mapping, Sequence

from tailnet.agent.addr import IPNetwork
from tailnet.agent.datapath.interface import (
    UPCALL_LIMIT,
    Activity,
    Carried,
    Path,
    PeerEntry,
    Session,
    Wake,
)
from tailnet.agent.datapath.reference import drops
from tailnet.agent.datapath.reference.inbound import Inbound
from tailnet.agent.datapath.reference.outbound import Outbound
from tailnet.agent.datapath.reference.reject import Replies
from tailnet.agent.datapath.reference.tables import Tables
from tailnet.agent.datapath.reference.upcalls import UpcallQueue
from tailnet.agent.filter.match import Matcher
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import NodePublic, PeerId
from tailnet.agent.wireguard.cookie import mac1_key
from tailnet.agent.wireguard.session import IDLE


class Control:
    """The state both directions share, and its setters; see the interface for their contracts."""

    def __init__(self, upcall_limit: int = UPCALL_LIMIT) -> None:
        self._drops = drops.counters()
        self._upcalls = UpcallQueue(upcall_limit)
        self._tables = Tables()
        self._matcher = Matcher(self._tables.is_local)
        self._replies = Replies()
        parts = (self._tables, self._matcher, self._upcalls, self._drops, self._replies)
        self._outbound = Outbound(*parts)
        self._inbound = Inbound(*parts)

    def set_peers(self, peers: Mapping[PeerId, PeerEntry]) -> None:
        """All peers.  Longest prefix wins; a gone peer loses sessions, path, queue and counters."""
        self._outbound.forget_flow()
        for peer in self._tables.set_peers(peers):
            self._drops[drops.OUT_DISCARDED] += len(peer.queue)

    def change_peers(self, changed: Mapping[PeerId, PeerEntry | None]) -> None:
        """As ``set_peers`` with the peers of before, these changed; ``None`` removes one."""
        self._outbound.forget_flow()
        for peer in self._tables.change_peers(changed):
            self._drops[drops.OUT_DISCARDED] += len(peer.queue)

    def set_local(self, prefixes: Sequence[IPNetwork]) -> None:
        """Destinations that inbound packets may have; without any, flows are forgotten."""
        self._tables.set_local(prefixes)
        if not prefixes:
            self._matcher.flows.clear()

    def set_filter(self, packet_filter: Filter) -> None:
        """Rules for inbound packets.  Flow state is kept."""
        self._matcher.set_filter(packet_filter)

    def set_public_key(self, public: NodePublic) -> None:
        """Our own key, by which handshake messages for others are told."""
        self._inbound.mac1_key = mac1_key(public)

    def set_path(self, peer: PeerId, path: Path) -> None:
        """Where to send from now on."""
        if (known := self._tables.peers.get(peer)) is not None:
            known.set_path(path)

    def drop_session(self, local_index: int) -> None:
        """Forget one session, in whichever slot it is."""
        self._tables.drop_session(local_index)

    def _discard(self, peer: PeerId, now: float) -> None:
        if (known := self._tables.peers.get(peer)) is not None:
            self._drops[drops.OUT_DISCARDED] += len(known.queue)
            self._replies.gave_up(list(known.queue), now)
            known.queue.clear()
            known.asked = False

    def set_wake(self, peer: PeerId, wake: Wake) -> None:
        """Ask for one Woke at the next such packet; asks add up until they fire."""
        if (known := self._tables.peers.get(peer)) is not None:
            known.wake |= wake.value

    def activity(self, peer: PeerId) -> Activity:
        """Times and counters of one peer; all zero for an unknown one."""
        known = self._tables.peers.get(peer)
        return IDLE if known is None else known.activity()

    def drops(self) -> dict[str, int]:
        """Packets dropped, by reason (a fixed set of names, all present)."""
        return dict(self._drops)

    def traffic(self) -> dict[str, Carried]:
        """What was carried since the start, by kind of path (a fixed set, all present)."""
        return self._tables.traffic.snapshot()

    def _install_session(self, peer: PeerId, session: Session, now: float) -> bool:
        """Put a session into its slot; false for an unknown peer.

        What an initiator must send at once is left in ``Outbound`` or in ``Inbound.confirmed``.
        """
        known = self._tables.peers.get(peer)
        if known is None:
            return False
        self._tables.add_session(known, session)
        known.asked = False
        if session.initiator:
            if known.queue:
                self._inbound.confirmed.append(known)
            else:
                self._outbound.keepalive(known, now)
        return True
