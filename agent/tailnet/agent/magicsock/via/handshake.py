"""Binding our end of one session at a relay, and trying whether the peer is at the other end.

::

    we            relay            peer
     │─ Bind ───────►│               │      to each address of the relay, again after 1, 2, 4 s
     │◄─ Challenge ──│               │      the first one counts
     │─ Answer ─────►│               │      our address is bound now
     │─ Ping ───────►│─ ─ ─ ─ ─ ─ ─ ►│      lost unless the peer is bound too
     │◄─ ─ ─ ─ ─ ─ ─ │◄──── Ping ────│      answered, and returned once
     │◄──────────────│◄──── Pong ────│      ready

An Answer is not acknowledged, so it goes again with each Ping until a Pong is there.

Source: tailscale wgengine/magicsock/relaymanager.go.
"""

from collections.abc import Callable

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.disco.messages import TXID_LEN
from tailnet.agent.disco.via import Bind, Kind, RelayEndpoint
from tailnet.agent.keys import DiscoPublic, PeerId
from tailnet.agent.magicsock.candidate import usable
from tailnet.agent.magicsock.via.actions import Probe, Ready, SendBind, ViaAction

LIFETIME = 30.0  # seconds at most
MAX_ADDRESSES = 8  # of one relay, tried: an offer must not make us send much
MAX_PINGS = 10
AGAIN = (1.0, 2.0, 4.0)  # seconds between attempts at each step
PING_AGAIN = (0.5, 0.5, 1.0, 2.0, 4.0)


class Handshake:
    """One session.  After each call the owner takes everything from ``actions``.

    Attributes:
        peer: whom it leads to.
        endpoint: what was offered.
        done: ready, or given up.
        actions: what to do, in order.
    """

    def __init__(
        self,
        peer: PeerId,
        remote: DiscoPublic,
        endpoint: RelayEndpoint,
        now: float,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """``remote`` is the peer's disco key."""
        self.peer = peer
        self.endpoint = endpoint
        self.done = False
        self.actions: list[ViaAction] = []
        self._remote = remote
        self._random_bytes = random_bytes
        self._generation = int.from_bytes(random_bytes(4)) | 1  # not 0
        self._expires = now + min(endpoint.bind_lifetime, LIFETIME)
        self._answer: Bind | None = None
        self._at: AddrPort | None = None  # where the relay answered
        self._sent: dict[bytes, float] = {}  # our pings
        self._tries = 0
        self._again_at: float | None = None
        self._bind(now)

    @property
    def remote(self) -> DiscoPublic:
        """The peer's disco key."""
        return self._remote

    def handle_challenge(self, challenge: Bind, src: AddrPort, now: float) -> None:
        """The relay wants proof that we are at the address we bind."""
        if self._answer is not None or challenge.remote != self._remote:
            return
        self._answer = challenge._replace(step=Kind.ANSWER, generation=self._generation)
        self._at, self._tries = src, 0
        self._ping(now)

    def handle_ping(self, src: ViaAddr, now: float) -> None:
        """The peer is there: it is pinged back."""
        if src.relay == self._at and not self.done:
            self._ping(now)

    def handle_pong(self, txid: bytes, now: float) -> bool:
        """The peer answers; false if this is not our ping."""
        sent = self._sent.pop(txid, None)
        if sent is None or self._at is None:
            return False
        if not self.done:
            self.done = True
            via = ViaAddr(self._at, self.endpoint.vni)
            self.actions.append(Ready(self.peer, via, self.endpoint.server, now - sent))
        return True

    def handle_timeout(self, now: float) -> None:
        """Try again, or give up."""
        if now >= self._expires:
            self.done = True
        elif self._again_at is not None and now >= self._again_at:
            if self._answer is None:
                self._bind(now)
            else:
                self._ping(now)

    def deadline(self) -> float:
        """When :meth:`handle_timeout` is wanted [s]."""
        return self._expires if self._again_at is None else min(self._again_at, self._expires)

    # --- inside

    def _bind(self, now: float) -> None:
        bind = Bind(Kind.BIND, self.endpoint.vni, self._generation, self._remote)
        addrs = dict.fromkeys(filter(usable, self.endpoint.addrs))
        for to in list(addrs)[:MAX_ADDRESSES]:
            self.actions.append(SendBind(self.endpoint.server, to, bind))
        self._wait(now, AGAIN)

    def _ping(self, now: float) -> None:
        if self._at is None or self._answer is None or len(self._sent) >= MAX_PINGS:
            return
        self.actions.append(SendBind(self.endpoint.server, self._at, self._answer))
        txid = self._random_bytes(TXID_LEN)
        self._sent[txid] = now
        self.actions.append(Probe(self.peer, ViaAddr(self._at, self.endpoint.vni), txid))
        self._wait(now, PING_AGAIN)

    def _wait(self, now: float, steps: tuple[float, ...]) -> None:
        more = self._tries < len(steps)
        self._again_at = now + steps[self._tries] if more else None
        self._tries += 1
