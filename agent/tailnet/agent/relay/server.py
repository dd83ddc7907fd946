"""A UDP relay for pairs of peers, without I/O.

::

    a client asks by DERP ─► a session with a number (VNI) for the pair
    each client, by UDP:   Bind ─► Challenge ─► Answer: its address is bound to its end
    then whatever comes from one bound address goes, unchanged, to the other

Nobody is answered more than was sent: a Challenge is as long as the Bind before it, and data passes
only between two addresses that have proven to be there.  The challenge is a MAC over what it is
for, so that a Bind costs no memory.

Source: tailscale net/udprelay/server.go.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from tailnet.agent.addr import AddrPort
from tailnet.agent.crypto.box import NONCE_LEN
from tailnet.agent.crypto.kdf import equal
from tailnet.agent.disco import geneve, messages
from tailnet.agent.disco.envelope import Sealer, sender_untrusted
from tailnet.agent.disco.geneve import HEADER_LEN, MAX_VNI, Header, Protocol
from tailnet.agent.disco.via import Bind, Kind, RelayEndpoint, sorted_pair
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import DiscoPrivate, DiscoPublic

BIND_LIFETIME = 30.0  # seconds in which both clients must have bound
IDLE_LIFETIME = 300.0  # seconds without traffic
SWEEP = 30.0  # seconds between looks for sessions that ended
SECRET_LIFETIME = 120.0  # seconds; the one before is still accepted
MAX_SESSIONS = 4096
_SECRET_LEN = 32

Pair = tuple[DiscoPublic, DiscoPublic]

Versions = tuple[int, int]
"""Of IP, in and out."""


class Datagram(NamedTuple):
    """To be sent from the relay's socket."""

    to: AddrPort
    data: bytes


class SessionInfo(NamedTuple):
    """For people.

    Attributes:
        vni: number of the session.
        clients: disco keys.
        bound: addresses, ``None`` where a client has not bound.
        packets, bytes: passed, from each client.
    """

    vni: int
    clients: Pair
    bound: tuple[AddrPort | None, AddrPort | None]
    packets: tuple[int, int]
    bytes: tuple[int, int]


@dataclass(slots=True)
class _Session:
    endpoint: RelayEndpoint
    made_at: float
    last_at: float
    bound: list[AddrPort | None] = field(default_factory=lambda: [None, None])
    generation: list[int] = field(default_factory=lambda: [0, 0])
    packets: list[int] = field(default_factory=lambda: [0, 0])
    bytes: list[int] = field(default_factory=lambda: [0, 0])

    def expired(self, now: float) -> bool:
        if None in self.bound:
            return now - self.made_at > BIND_LIFETIME
        return now - self.last_at > IDLE_LIFETIME


class RelayServer:
    """The relay.

    Args:
        private: its own disco key, which is not the node's.
        random_bytes: source of randomness.
        now: seconds.

    Attributes:
        drops: datagrams ignored, by reason.
        forwarded, forwarded_bytes: datagrams passed on and their bytes, by IP version in and out.
    """

    def __init__(
        self, private: DiscoPrivate, *, random_bytes: Callable[[int], bytes], now: float
    ) -> None:
        self._sealer = Sealer(private)
        self._random_bytes = random_bytes
        self._addrs: tuple[AddrPort, ...] = ()
        self._lamport = 0
        self._next_vni = 1
        self._by_vni: dict[int, _Session] = {}
        self._by_pair: dict[Pair, _Session] = {}
        self._secrets = [random_bytes(_SECRET_LEN)]
        self._secret_at = now
        self._sweep_at = now + SWEEP
        self.drops: Counter[str] = Counter()
        self.forwarded: Counter[Versions] = Counter()
        self.forwarded_bytes: Counter[Versions] = Counter()

    @property
    def public(self) -> DiscoPublic:
        """The relay's disco key."""
        return self._sealer.public

    def set_addresses(self, addrs: tuple[AddrPort, ...]) -> None:
        """Where clients reach us; without any, nothing is allocated."""
        self._addrs = addrs

    def sessions(self) -> list[SessionInfo]:
        """All of them, the oldest first."""
        return [
            SessionInfo(
                session.endpoint.vni,
                session.endpoint.clients,
                (session.bound[0], session.bound[1]),
                (session.packets[0], session.packets[1]),
                (session.bytes[0], session.bytes[1]),
            )
            for session in self._by_vni.values()
        ]

    def allocate(self, clients: Pair, now: float) -> RelayEndpoint | None:
        """A session for a pair, the one it has if there is one; ``None``: not now.

        The caller has checked that the asker is one of the two and may use this relay.
        """
        self.handle_timeout(now)
        a, b = sorted_pair(*clients)
        if a == b or not self._addrs:
            return None
        session = self._by_pair.get((a, b))
        if session is not None and not session.expired(now):
            return session.endpoint._replace(addrs=self._addrs)
        if session is not None:
            self._end(session)
        if len(self._by_vni) >= MAX_SESSIONS:
            self.drops["no room"] += 1
            return None
        self._lamport += 1
        endpoint = RelayEndpoint(
            self.public,
            (a, b),
            self._lamport,
            self._free_vni(),
            BIND_LIFETIME,
            IDLE_LIFETIME,
            self._addrs,
        )
        session = _Session(endpoint, now, now)
        self._by_vni[endpoint.vni] = self._by_pair[a, b] = session
        return endpoint

    def handle_datagram_untrusted(self, data: bytes, src: AddrPort, now: float) -> Datagram | None:
        """What to send, if anything."""
        if now - self._secret_at >= SECRET_LIFETIME or now >= self._sweep_at:
            self.handle_timeout(now)
        vni = int.from_bytes(data[4:7])
        session = self._by_vni.get(vni)
        if session is None or len(data) <= HEADER_LEN:
            self.drops["no session"] += 1
            return None
        if not data[1] & 0x80:
            to = self.pass_on(vni, src, 1, len(data), now)
            return None if to is None else Datagram(to, data)
        try:
            header = geneve.parse_untrusted(data)
            return self._bind_untrusted(session, header, data, src, now)
        except BadPacket:
            self.drops["malformed"] += 1
            return None

    def pass_on(
        self, vni: int, src: AddrPort, packets: int, size: int, now: float
    ) -> AddrPort | None:
        """Where data of a session from ``src`` goes, unchanged; ``None``: nowhere.

        ``packets`` datagrams of together ``size`` bytes are counted.
        """
        session = self._by_vni.get(vni)
        if session is None:
            self.drops["no session"] += packets
            return None
        if src == session.bound[0]:
            end = 0
        elif src == session.bound[1]:
            end = 1
        else:
            self.drops["not bound"] += packets
            return None
        to = session.bound[1 - end]
        if to is None:
            self.drops["other end not bound"] += packets
            return None
        session.last_at = now
        session.packets[end] += packets
        session.bytes[end] += size
        versions = src.ip.version, to.ip.version
        self.forwarded[versions] += packets
        self.forwarded_bytes[versions] += size
        return to

    def handle_timeout(self, now: float) -> None:
        """New secrets, and sessions that ended."""
        if now - self._secret_at >= SECRET_LIFETIME:
            older = now - self._secret_at >= 2 * SECRET_LIFETIME
            self._secrets = [self._random_bytes(_SECRET_LEN), *([] if older else self._secrets[:1])]
            self._secret_at = now
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP
            for session in [s for s in self._by_vni.values() if s.expired(now)]:
                self._end(session)

    def deadline(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]; ``None`` without sessions."""
        return self._sweep_at if self._by_vni else None

    # --- inside

    def _bind_untrusted(
        self, session: _Session, header: Header, data: bytes, src: AddrPort, now: float
    ) -> Datagram | None:
        clients = session.endpoint.clients
        payload = data[HEADER_LEN:]
        sender = sender_untrusted(payload)
        if header.protocol is not Protocol.DISCO or sender not in clients:
            self.drops["not of the session"] += 1
            return None
        message = messages.parse_untrusted(self._sealer.open_untrusted(payload))
        end = clients.index(sender)
        if (
            not isinstance(message, Bind)
            or message.vni != header.vni
            or message.remote != clients[1 - end]
            or not message.generation
        ):
            self.drops["not of the session"] += 1
            return None
        if message.step is Kind.BIND:
            return self._challenge(message, sender, src)
        if message.step is Kind.ANSWER:
            self._answer(session, end, message, src, now)
        return None

    def _challenge(self, bind: Bind, sender: DiscoPublic, src: AddrPort) -> Datagram:
        proof = self._proof(self._secrets[0], bind, src)
        challenge = bind._replace(step=Kind.CHALLENGE, challenge=proof)
        nonce = self._random_bytes(NONCE_LEN)
        sealed = self._sealer.seal(sender, nonce, messages.encode(challenge))
        header = geneve.encode(Header(Protocol.DISCO, bind.vni, control=True))
        return Datagram(src, header + sealed)

    def _answer(self, session: _Session, end: int, answer: Bind, src: AddrPort, now: float) -> None:
        proofs = (self._proof(secret, answer, src) for secret in self._secrets)
        if not any(equal(proof, answer.challenge) for proof in proofs):
            self.drops["wrong challenge"] += 1
            return
        session.bound[end] = src
        session.generation[end] = answer.generation
        session.last_at = now

    @staticmethod
    def _proof(secret: bytes, bind: Bind, src: AddrPort) -> bytes:
        what = bind.vni.to_bytes(4) + bind.generation.to_bytes(4) + bind.remote.raw
        where = src.ip.packed + src.port.to_bytes(2)
        return hashlib.blake2s(what + where, key=secret).digest()

    def _free_vni(self) -> int:
        while self._next_vni in self._by_vni:
            self._next_vni = self._next_vni % MAX_VNI + 1
        vni = self._next_vni
        self._next_vni = vni % MAX_VNI + 1
        return vni

    def _end(self, session: _Session) -> None:
        self._by_vni.pop(session.endpoint.vni, None)
        self._by_pair.pop(session.endpoint.clients, None)
