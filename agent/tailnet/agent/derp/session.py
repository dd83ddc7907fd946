"""One connection to a relay, from the HTTP upgrade to its end.

::

    UPGRADE ──101──► GREETING ──ServerKey──► INTRODUCED ──ServerInfo──► UP
                                 └─► ClientInfo, NotePreferred, packets that wait

Nothing leads back: a connection that fails is replaced by a new session.

Source: tailscale derp/derp_client.go, derp/derphttp/derphttp_client.go.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from tailnet.agent.crypto.box import NONCE_LEN, Box
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.derp import frames
from tailnet.agent.derp.backlog import Backlog, TokenBucket
from tailnet.agent.derp.frames import FrameReader, Kind, ServerInfo
from tailnet.agent.derp.upgrade import UpgradeReader
from tailnet.agent.errors import BadPacket, RemoteProtocolError
from tailnet.agent.keys import NodePrivate, NodePublic

CONNECT_TIMEOUT = 10.0  # s, from the first SYN to ServerInfo; magicsock/derp.go
READ_TIMEOUT = 120.0  # s without a frame; derp_client.go, twice the keepalive
PING_TIMEOUT = 3.0  # s; magicsock.go rebind
CLOCK = 0.001  # s that a window of packets has at most; see Backlog
MAX_REPLIES = 16  # pongs that wait while the socket is full
MAX_RATE = 1 << 40  # bytes per second; more is no limit at all
HEALTH_LEN = 1 << 10  # characters of a relay's complaint that are kept


class State(Enum):
    """How far the handshake is."""

    UPGRADE = auto()
    GREETING = auto()
    INTRODUCED = auto()
    UP = auto()


@dataclass(frozen=True)
class Up:
    """The relay accepted us."""

    info: ServerInfo


@dataclass(frozen=True)
class PeerGone:
    """The relay has no such client (any more)."""

    peer: NodePublic
    reason: int


@dataclass(frozen=True)
class Health:
    """The relay's complaint about this connection; empty when it is well."""

    text: str


@dataclass(frozen=True)
class Restarting:
    """The relay is about to go; both times in seconds."""

    reconnect_in: float
    try_for: float


Event = Up | PeerGone | Health | Restarting
Batch = tuple[NodePublic, list[bytes]]


class Session:
    """The client's end of one connection.

    Attributes:
        state: how far the handshake is.
        heard: when the last frame came [s]; once it is up.
        server: the relay's key, once it said so.
        skipped: frames that were too short or damaged for their kind.
    """

    def __init__(
        self,
        key: NodePrivate,
        backlog: Backlog,
        *,
        request: bytes,
        started: float,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """``request`` is the HTTP request to begin with.

        ``started`` [s] is when dialling began: the time for connecting counts from there.
        """
        self._key = key
        self._backlog = backlog
        self._random_bytes = random_bytes
        self._upgrade = UpgradeReader()
        self._reader = FrameReader(Kind.RECV_PACKET)
        self._box: Box | None = None
        self._control: deque[bytes] = deque([request])
        self._events: deque[Event] = deque()
        self._blocked = False
        self._preferred = False
        self._preferred_told = False
        self._read_by = started + CONNECT_TIMEOUT
        self._ping: tuple[bytes, float] | None = None  # payload, deadline
        self._clock = b""  # payload of the ping behind the last window
        self._window_until = started
        self.state = State.UPGRADE
        self.heard = started
        self.server: NodePublic | None = None
        self.skipped = 0

    # --- input ---------------------------------------------------------------

    def handle_data(self, data: bytes, now: float) -> list[Batch]:
        """Bytes from the relay; returns the packets among them, by source and in order.

        Raises:
            RemoteProtocolError: the connection is over.
        """
        try:
            if self.state is State.UPGRADE:
                rest = self._upgrade.feed_untrusted(data)
                if rest is None:
                    return []
                self.state = State.GREETING
                data = rest
            received = self._reader.feed_untrusted(data)
            if received and self.state is State.UP:
                self._read_by = now + READ_TIMEOUT
                self.heard = now
            for kind, key, bodies in received:
                if not key:
                    self._handle_frame(kind, bodies[0], now)
        except BadPacket as error:
            raise RemoteProtocolError(str(error)) from None
        return frames.packets_of(received, Kind.RECV_PACKET)

    def _handle_frame(self, kind: int, body: bytes, now: float) -> None:
        if self.state is State.GREETING:
            if kind == Kind.SERVER_KEY:  # anything else before it is skipped
                self._introduce(frames.parse_server_key_untrusted(body))
            return
        try:
            self._handle_signal(kind, body, now)
        except BadPacket:
            if kind == Kind.SERVER_INFO:
                raise
            self.skipped += 1

    def _handle_signal(self, kind: int, body: bytes, now: float) -> None:
        match kind:
            case Kind.PING if len(body) >= frames.PING_LEN:
                if len(self._control) < MAX_REPLIES:
                    pong = frames.encode_frame(Kind.PONG, body[: frames.PING_LEN])
                    self._control.append(pong)
            case Kind.PONG if self._ping is not None and body == self._ping[0]:
                self._ping = None
            case Kind.PONG if self._clock and body == self._clock:
                self._clock = b""
                self._open_windows(now)
            case Kind.PEER_GONE:
                self._events.append(PeerGone(*frames.parse_peer_gone_untrusted(body)))
            case Kind.HEALTH:
                self._events.append(Health(body.decode("utf-8", "replace")[:HEALTH_LEN]))
            case Kind.RESTARTING:
                self._events.append(Restarting(*frames.parse_restarting_untrusted(body)))
            case Kind.SERVER_INFO if self.state is State.INTRODUCED and self._box is not None:
                self._accept(frames.parse_server_info_untrusted(body, self._box), now)
            case _:
                pass  # KeepAlive and what the future brings

    def _introduce(self, server: NodePublic) -> None:
        self.server = server
        self._box = Box(self._key.raw, server.raw)
        nonce = self._random_bytes(NONCE_LEN)
        info = frames.ClientInfo()
        hello = frames.encode_client_info(public_of(self._key), self._box, nonce, info)
        self._control.append(hello)
        self.state = State.INTRODUCED
        self._tell_preferred()
        self._backlog.waiting = self._blocked

    def _accept(self, info: ServerInfo, now: float) -> None:
        self.state = State.UP
        self._read_by = now + READ_TIMEOUT
        self.heard = now
        rate = min(info.token_bucket_bytes_per_second, MAX_RATE)
        burst = min(info.token_bucket_bytes_burst, MAX_RATE)
        self._backlog.bucket = TokenBucket(rate, burst, now) if rate > 0 else None
        self._events.append(Up(info))

    def handle_blocked(self, *, blocked: bool) -> None:
        """The socket stopped or started taking data."""
        self._blocked = blocked
        if blocked:
            self._backlog.hold()
        elif self.state in {State.INTRODUCED, State.UP}:
            self._backlog.waiting = False

    def note_preferred(self, *, home: bool) -> None:
        """Tell the relay whether it is this node's home; repeated only when it changes."""
        self._preferred = home
        self._tell_preferred()

    def _tell_preferred(self) -> None:
        if self.state in {State.UPGRADE, State.GREETING} or self._preferred == self._preferred_told:
            return
        self._preferred_told = self._preferred
        told = frames.encode_frame(Kind.NOTE_PREFERRED, bytes((self._preferred,)))
        self._control.append(told)

    def ping(self, now: float, patience: float = PING_TIMEOUT) -> None:
        """Ask whether the relay is still there.

        Without an answer within ``patience`` [s] the connection ends.
        """
        if self.state is not State.UP:
            return
        if self._ping is not None:
            payload, deadline = self._ping
            self._ping = payload, min(deadline, now + patience)
            return
        payload = self._random_bytes(frames.PING_LEN)
        self._ping = payload, now + patience
        self._control.append(frames.encode_frame(Kind.PING, payload))

    # --- time ----------------------------------------------------------------

    def next_timeout(self) -> float:
        """When to call :meth:`handle_timeout` and :meth:`poll_transmit` [s]."""
        due = self._read_by if self._ping is None else min(self._read_by, self._ping[1])
        if self._backlog.size and not self._backlog.waiting:
            return min(due, self._window_until)
        return due

    def handle_timeout(self, now: float) -> None:
        """Check the deadlines.

        Raises:
            RemoteProtocolError: the relay was silent for too long; the connection is over.
        """
        if now >= self._read_by:
            msg = "the relay fell silent" if self.state is State.UP else "no answer from the relay"
            raise RemoteProtocolError(msg)
        if self._ping is not None and now >= self._ping[1]:
            msg = "no answer to a ping"
            raise RemoteProtocolError(msg)

    # --- output --------------------------------------------------------------

    def poll_transmit(self, now: float) -> bytes | None:
        """Everything there is to write, as one piece, unless the socket is full.

        Of packets for one destination only a window: a ping follows, and the next window goes when
        the relay has read that far, or after a moment.
        """
        if self._blocked:
            return None
        backlog = self._backlog
        if not backlog.waiting and backlog.size:
            if now >= self._window_until:
                self._clock = b""  # a relay that has a pong to send drops further pings
                self._open_windows(now)
            self._control.append(backlog.take())
            if backlog.size and not self._clock:
                self._clock = self._random_bytes(frames.PING_LEN)
                self._control.append(frames.encode_frame(Kind.PING, self._clock))
        data = b"".join(self._control)
        self._control.clear()
        return data or None

    def _open_windows(self, now: float) -> None:
        self._window_until = now + CLOCK
        self._backlog.open_windows()

    def poll_event(self) -> Event | None:
        """The next thing that happened."""
        return self._events.popleft() if self._events else None
