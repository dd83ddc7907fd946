"""The client of peer relays among the peers: who may say what about relays, and what is said.

::

    allocate request    through DERP, from a peer that may use our relay, for itself and another
    allocate response   through DERP, from a relay that we asked
    call-me-maybe-via   through DERP, from the peer it leads to
    challenge           through a session, from the relay where we bind it
    ping, pong          through a session, from the peer at its other end

Source: tailscale wgengine/magicsock/{magicsock,relaymanager}.go, handleDiscoMessage.
"""

from collections.abc import Callable

from tailnet.agent.addr import ViaAddr
from tailnet.agent.disco.messages import Message, Ping, Pong
from tailnet.agent.disco.via import (
    AllocateRequest,
    AllocateResponse,
    Bind,
    CallMeMaybeVia,
    Kind,
    RelayEndpoint,
)
from tailnet.agent.keys import DiscoPublic, PeerId, RelayAddr
from tailnet.agent.magicsock.choice import Quality
from tailnet.agent.magicsock.mail import Mail
from tailnet.agent.magicsock.peers import Relaying
from tailnet.agent.magicsock.roster import Roster
from tailnet.agent.magicsock.via.actions import Ask, Offer, Probe, Ready, SendBind
from tailnet.agent.magicsock.via.client import Pair, Target, ViaClient

Allocate = Callable[[Pair, float], RelayEndpoint | None]
"""Our own relay: a session for a pair, at a time [s]."""


class Desk:
    """Believes or drops what is said about peer relays, and says our part.

    Attributes:
        enabled: false to use no peer relays.
    """

    def __init__(self, roster: Roster, mail: Mail, random_bytes: Callable[[int], bytes]) -> None:
        self._roster = roster
        self._mail = mail
        self._client = ViaClient(mail.public, random_bytes)
        self._allocate: Allocate | None = None
        self.enabled = True
        roster.seek = self._seek
        roster.gone = self._client.forget

    def set_allocate(self, allocate: Allocate | None) -> None:
        """Our own relay; ``None`` if we are none."""
        self._allocate = self._client.own = allocate

    def __contains__(self, key: object) -> bool:
        """A relay with this disco key may write to us."""
        return key in self._client

    def handle(self, sender: DiscoPublic, message: Message, src: ViaAddr, now: float) -> None:
        """A message that came through a session, from a peer or a relay."""
        match message:
            case Ping():
                self._handle_ping(sender, message, src, now)
            case Pong():
                self._handle_pong(sender, message, now)
            case Bind() if message.step is Kind.CHALLENGE:
                if not self._client.handle_challenge(sender, message, src, now):
                    self._mail.drops["unknown challenge"] += 1
                self._drain(now)
            case _:
                self._mail.drops["unwanted"] += 1

    def handle_derp(
        self, sender: DiscoPublic, message: Message, src: RelayAddr, now: float
    ) -> None:
        """A message about relays that came through DERP: both keys must be of one peer."""
        peer_id = self._roster.index.by_node.get(src.key)
        if peer_id is None or self._roster.peers[peer_id].info.disco_key != sender:
            self._mail.drops["unbelievable call"] += 1
            return
        match message:
            case CallMeMaybeVia(endpoint):
                believed = self._handle_offer(peer_id, endpoint, now)
            case AllocateResponse():
                believed = self._client.handle_response(peer_id, message, self._target, now)
            case AllocateRequest(clients, generation) if sender in clients:
                believed = self._handle_request(peer_id, src, clients, generation, now)
            case _:
                believed = False
        if not believed:
            self._mail.drops["unwanted"] += 1
        self._drain(now)

    def handle_timeout(self, now: float) -> None:
        """Everything that is due."""
        self._client.handle_timeout(now)
        self._drain(now)

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]; ``None`` at rest."""
        return self._client.next_timeout()

    # --- inside

    def _target(self, peer_id: PeerId) -> Target | None:
        """The peer, if a peer relay may lead to it."""
        peer = self._roster.peers.get(peer_id)
        if peer is None or not peer.relayable or not self.enabled:
            return None
        using = peer.trusted()
        session = None
        if using is not None and using.server is not None and isinstance(using.addr, ViaAddr):
            session = (using.server, using.addr.vni)
        return Target(peer_id, peer.info.disco_key, session)

    def _seek(self, peer_id: PeerId, now: float, floor: float) -> None:
        if (target := self._target(peer_id)) is not None:
            self._client.seek(target, self._roster.servers, now, floor)
            self._drain(now)

    def _handle_offer(self, peer_id: PeerId, endpoint: RelayEndpoint, now: float) -> bool:
        target = self._target(peer_id)
        return target is not None and self._client.handle_offer(target, endpoint, now)

    def _handle_request(
        self, peer_id: PeerId, src: RelayAddr, clients: Pair, generation: int, now: float
    ) -> bool:
        peer = self._roster.peers[peer_id]
        if self._allocate is None or Relaying.ASKS not in peer.info.relaying:
            return False
        if (endpoint := self._allocate(clients, now)) is not None:
            self._mail.send(src, peer.info.disco_key, AllocateResponse(generation, endpoint))
        return True

    def _handle_ping(self, sender: DiscoPublic, ping: Ping, src: ViaAddr, now: float) -> None:
        peers = self._roster.index.by_disco.get(sender, ())
        wanted = [p for p in peers if self._target(p) is not None]
        if not wanted:
            self._mail.drops["unwanted"] += 1
            return
        self._mail.send(src, sender, Pong(ping.txid, src.relay))
        for peer_id in wanted:
            self._client.handle_ping(peer_id, src, now)
        self._drain(now)

    def _handle_pong(self, sender: DiscoPublic, pong: Pong, now: float) -> None:
        for peer_id in self._roster.index.by_disco.get(sender, ()):
            machine = self._roster.peers[peer_id].machine
            if machine is not None and machine.handle_pong(pong.txid, now, udp=True):
                self._roster.follow(peer_id, now)
                return
            if self._client.handle_pong(peer_id, pong.txid, now):
                self._drain(now)
                return
        self._mail.drops["unknown pong"] += 1

    def _drain(self, now: float) -> None:
        """Carry out what the client wants."""
        while self._client.actions:
            actions, self._client.actions = self._client.actions, []
            for action in actions:
                match action:
                    case Ask(server, request):
                        self._by_derp(server, request)
                    case Offer(peer_id, endpoint):
                        self._by_derp(peer_id, CallMeMaybeVia(endpoint))
                    case SendBind(server, to, bind):
                        self._mail.send_control(to, server, bind)
                    case Probe(peer_id, via, txid):
                        self._mail.send_ping(via, self._roster.peers[peer_id].info.disco_key, txid)
                    case Ready():
                        self._ready(action, now)

    def _by_derp(self, peer_id: PeerId, message: Message) -> None:
        relay = self._roster.relay(peer_id)
        if relay is not None:
            self._mail.send(relay, self._roster.peers[peer_id].info.disco_key, message)

    def _ready(self, ready: Ready, now: float) -> None:
        if (machine := self._roster.machine(ready.peer, now)) is not None:
            machine.handle_relay(Quality(ready.via, ready.latency, 0, ready.server), now)
            self._roster.follow(ready.peer, now)
