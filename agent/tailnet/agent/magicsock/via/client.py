"""Finding sessions at peer relays that lead to peers.

::

    a path is wanted ─► ask every relay for a session ──► offer it to the peer, and bind it
    the peer offers one ────────────────────────────────► bind it
                                                          a pong through it: ready

A relay numbers what it allocates for a pair (Lamport id): of two offers the later one counts.

Source: tailscale wgengine/magicsock/relaymanager.go.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tailnet.agent.addr import ViaAddr
from tailnet.agent.disco.geneve import MAX_VNI
from tailnet.agent.disco.via import (
    AllocateRequest,
    AllocateResponse,
    Bind,
    RelayEndpoint,
    sorted_pair,
)
from tailnet.agent.keys import DiscoPublic, PeerId
from tailnet.agent.magicsock.via.actions import Ask, Offer, ViaAction
from tailnet.agent.magicsock.via.handshake import Handshake

RETRY = 3.0  # seconds until a request goes once more
GIVE_UP = 10.0  # seconds that an answer may take
MAX_SERVERS = 16  # relays asked for one peer
MAX_OF_PEER = 16  # sessions bound at a time for one peer
MAX_HANDSHAKES = 1024  # for all

Pair = tuple[DiscoPublic, DiscoPublic]
Session = tuple[DiscoPublic, int]
"""Key of a relay and number of a session there."""


class Target(NamedTuple):
    """A peer to be reached.

    Attributes:
        peer: who.
        remote: its disco key.
        in_use: the session that its path trusts now, if any.
    """

    peer: PeerId
    remote: DiscoPublic
    in_use: Session | None = None


class _Request(NamedTuple):
    """Waits for an answer."""

    server: PeerId
    peer: PeerId
    request: AllocateRequest
    again_at: float | None
    until: float


class _Sought(NamedTuple):
    """When relays were asked for a peer, and which there were."""

    at: float
    servers: dict[PeerId, DiscoPublic]


class ViaClient:
    """All of it, for all peers.  After each call the owner takes everything from ``actions``.

    Attributes:
        own: allocates at our own relay, if we are one.
        actions: what to do, in order.
    """

    def __init__(self, public: DiscoPublic, random_bytes: Callable[[int], bytes]) -> None:
        """``public`` is our own disco key."""
        self._public = public
        self._random_bytes = random_bytes
        self._requests: list[_Request] = []
        self._handshakes: dict[Session, Handshake] = {}
        self._sought: dict[PeerId, _Sought] = {}
        self.own: Callable[[Pair, float], RelayEndpoint | None] | None = None
        self.actions: list[ViaAction] = []

    def __contains__(self, key: object) -> bool:
        """A relay with this key may send a challenge."""
        return any(server == key for server, _ in self._handshakes)

    # --- wishes

    def seek(
        self, target: Target, servers: Mapping[PeerId, DiscoPublic], now: float, floor: float
    ) -> None:
        """A session that leads to the target is wanted.

        Nothing happens if relays were asked less than ``floor`` seconds ago, unless others have
        come since.
        """
        peer = target.peer
        asked = {p: key for p, key in list(servers.items())[:MAX_SERVERS] if p != peer}
        before = self._sought.get(peer)
        recent = before is not None and now - before.at < floor
        if recent and before is not None and asked.items() <= before.servers.items():
            return
        if not asked and self.own is None:
            return
        self._sought[peer] = _Sought(now, asked)
        pair = sorted_pair(self._public, target.remote)
        self._requests = [r for r in self._requests if r.peer != peer]
        for server in asked:
            request = AllocateRequest(pair, int.from_bytes(self._random_bytes(4)))
            self._requests.append(_Request(server, peer, request, now + RETRY, now + GIVE_UP))
            self.actions.append(Ask(server, request))
        if self.own is not None and (endpoint := self.own(pair, now)) is not None:
            self._found(target, endpoint, now)

    def forget(self, peer: PeerId) -> None:
        """The peer is gone, or has another disco key: nothing begun leads to it."""
        self._sought.pop(peer, None)
        self._requests = [r for r in self._requests if r.peer != peer]
        for session, handshake in list(self._handshakes.items()):
            if handshake.peer == peer:
                del self._handshakes[session]

    # --- inputs

    def handle_response(
        self,
        server: PeerId,
        response: AllocateResponse,
        target_of: Callable[[PeerId], Target | None],
        now: float,
    ) -> bool:
        """A relay answers; false if it was not asked that."""
        mine = (r for r in self._requests if r.server == server)
        waiting = next((r for r in mine if r.request.generation == response.generation), None)
        if waiting is None:
            return False
        target = target_of(waiting.peer)
        if target is None or response.endpoint.clients != waiting.request.clients:
            return False
        self._requests.remove(waiting)
        self._found(target, response.endpoint, now)
        return True

    def handle_offer(self, target: Target, endpoint: RelayEndpoint, now: float) -> bool:
        """The peer offers a session; false if it is not for the two of us."""
        if endpoint.clients != sorted_pair(self._public, target.remote):
            return False
        self._bind(target, endpoint, now)
        return True

    def handle_challenge(self, server: DiscoPublic, bind: Bind, src: ViaAddr, now: float) -> bool:
        """A relay wants proof; false if we bind nothing there."""
        handshake = self._handshakes.get((server, bind.vni))
        if handshake is None or src.vni != bind.vni:
            return False
        handshake.handle_challenge(bind, src.relay, now)
        self._take(handshake)
        return True

    def handle_ping(self, peer: PeerId, src: ViaAddr, now: float) -> None:
        """The peer pings us through a session."""
        for handshake in self._of(peer):
            if handshake.endpoint.vni == src.vni:
                handshake.handle_ping(src, now)
                self._take(handshake)

    def handle_pong(self, peer: PeerId, txid: bytes, now: float) -> bool:
        """The peer answers through a session; false if no ping of ours has this id."""
        for handshake in self._of(peer):
            if handshake.handle_pong(txid, now):
                self._take(handshake)
                return True
        return False

    def handle_timeout(self, now: float) -> None:
        """Everything that is due."""
        waiting = []
        for each in self._requests:
            if now >= each.until:
                continue
            if each.again_at is not None and now >= each.again_at:
                self.actions.append(Ask(each.server, each.request))
                waiting.append(each._replace(again_at=None))
            else:
                waiting.append(each)
        self._requests = waiting
        for handshake in list(self._handshakes.values()):
            if now >= handshake.deadline():
                handshake.handle_timeout(now)
                self._take(handshake)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]; ``None`` at rest."""
        times = [h.deadline() for h in self._handshakes.values()]
        times += [r.until if r.again_at is None else r.again_at for r in self._requests]
        return min(times, default=None)

    # --- inside

    def _found(self, target: Target, endpoint: RelayEndpoint, now: float) -> None:
        self.actions.append(Offer(target.peer, endpoint))
        self._bind(target, endpoint, now)

    def _bind(self, target: Target, endpoint: RelayEndpoint, now: float) -> None:
        """Begin, unless that or something later has begun, or is in use."""
        peer, remote, in_use = target
        session = (endpoint.server, endpoint.vni)
        if session in self._handshakes or session == in_use or not 0 < endpoint.vni <= MAX_VNI:
            return
        others = self._of(peer)
        for other in others:
            if other.endpoint.server == endpoint.server:
                if other.endpoint.lamport >= endpoint.lamport:
                    return
                self._end(other)
        if len(others) >= MAX_OF_PEER or len(self._handshakes) >= MAX_HANDSHAKES:
            return
        begun = Handshake(peer, remote, endpoint, now, self._random_bytes)
        self._handshakes[session] = begun
        self._take(begun)

    def _of(self, peer: PeerId) -> list[Handshake]:
        return [h for h in self._handshakes.values() if h.peer == peer]

    def _take(self, handshake: Handshake) -> None:
        self.actions += handshake.actions
        handshake.actions = []
        if handshake.done:
            self._end(handshake)

    def _end(self, handshake: Handshake) -> None:
        self._handshakes.pop((handshake.endpoint.server, handshake.endpoint.vni), None)
