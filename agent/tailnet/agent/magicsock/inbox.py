"""What peers say by disco, and who is believed.

::

    ping by UDP          answered at once; its source may be a path
    ping by a relay      answered through the relay
    pong                 for whoever knows its transaction
    call-me-maybe        only through a relay, from the owner of both keys
    about peer relays    ``via.desk`` decides
    anything else        counted

Source: tailscale wgengine/magicsock/magicsock.go, handleDiscoMessage.
"""

from tailnet.agent.addr import DERP_MAGIC, AddrPort, ViaAddr
from tailnet.agent.disco.messages import CallMeMaybe, Ping, Pong
from tailnet.agent.keys import DiscoPublic, RelayAddr
from tailnet.agent.magicsock.mail import Mail
from tailnet.agent.magicsock.roster import Roster
from tailnet.agent.magicsock.via.desk import Desk
from tailnet.agent.wireguard.session import Source


class Inbox:
    """Hands what comes to the peers' path machines, and answers.

    Args:
        roster: all peers.
        desk: for what is about peer relays, or came through one.
        mail: opens and seals.
        direct: false to ignore what comes by UDP.
    """

    def __init__(self, roster: Roster, desk: Desk, mail: Mail, *, direct: bool) -> None:
        self._roster = roster
        self._desk = desk
        self._mail = mail
        self._direct = direct

    def handle_disco_untrusted(self, data: bytes, src: Source, now: float) -> None:
        """A datagram that looks like disco; what is not from a peer only counts in ``drops``."""
        if self._mail.node_key.is_zero or (not isinstance(src, RelayAddr) and not self._direct):
            self._mail.drops["unwanted"] += 1
            return
        relays = self._desk if isinstance(src, ViaAddr) else ()
        opened = self._mail.open_untrusted(data, self._roster.index.by_disco, relays)
        if opened is None:
            return
        sender, message = opened
        if isinstance(src, ViaAddr):
            self._desk.handle(sender, message, src, now)
            return
        if isinstance(src, RelayAddr):
            self.note_relay(src, now)
        match message:
            case Ping():
                self._handle_ping(sender, message, src, now)
            case Pong():
                self._handle_pong(sender, message, src, now)
            case CallMeMaybe():
                self._handle_call(sender, message, src, now)
            case _ if isinstance(src, RelayAddr):
                self._desk.handle_derp(sender, message, src, now)
            case _:
                self._mail.drops["unwanted"] += 1

    def note_relay(self, src: RelayAddr, now: float) -> None:
        """Something came from this node through this relay: a way back, and a sign of its path."""
        peer_id = self._roster.index.by_node.get(src.key)
        if peer_id is None:
            return
        peer = self._roster.peers[peer_id]
        if peer.learned_region != src.region:
            peer.learned_region = src.region
            self._roster.announce(peer_id, peer, now)
        if peer.machine is not None and peer.machine.note_relayed(now):
            self._roster.follow(peer_id, now)

    def _handle_ping(
        self, sender: DiscoPublic, ping: Ping, src: AddrPort | RelayAddr, now: float
    ) -> None:
        if isinstance(src, RelayAddr):
            seen_at = AddrPort(DERP_MAGIC, src.region & 0xFFFF)
            self._mail.send(src, sender, Pong(ping.txid, seen_at))
            return
        seen = False
        wanted = [p for p in self._roster.index.by_disco[sender] if self._roster.peers[p].direct]
        for peer_id in wanted:
            if (machine := self._roster.machine(peer_id, now)) is not None:
                seen = machine.note_heard(src, now, ping.txid) or seen
                self._roster.follow(peer_id, now)
        if seen or not wanted:
            self._mail.drops["duplicate" if seen else "unwanted"] += 1
        else:
            self._mail.send(src, sender, Pong(ping.txid, src))

    def _handle_pong(self, sender: DiscoPublic, pong: Pong, src: Source, now: float) -> None:
        """Peers may share a disco key: the pong belongs to the one that knows its transaction."""
        for peer_id in self._roster.index.by_disco[sender]:
            machine = self._roster.peers[peer_id].machine
            if machine is not None and machine.handle_pong(
                pong.txid, now, udp=isinstance(src, AddrPort), seen=pong.src
            ):
                self._roster.follow(peer_id, now)
                return
        self._mail.drops["unknown pong"] += 1

    def _handle_call(self, sender: DiscoPublic, call: CallMeMaybe, src: Source, now: float) -> None:
        """Believed only through a relay, and only if stamped node key and disco key agree."""
        peer_id = self._roster.index.by_node.get(src.key) if isinstance(src, RelayAddr) else None
        if peer_id is None or self._roster.peers[peer_id].info.disco_key != sender:
            self._mail.drops["unbelievable call"] += 1
            return
        if (machine := self._roster.machine(peer_id, now)) is not None:
            machine.handle_call_me_maybe(call.endpoints, now)
            self._roster.follow(peer_id, now)
