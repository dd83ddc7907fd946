"""A relay's end of one connection."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from integration.lab import derp_http

from tailnet.agent.crypto.box import NONCE_LEN
from tailnet.agent.derp import frames
from tailnet.agent.derp.backlog import TokenBucket
from tailnet.agent.derp.frames import Frame, FrameReader, Kind
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic

QUEUE = 32  # packets per client that wait, and as many of disco; derpserver.go
HIGH_WATER = 1 << 18  # bytes in the transport from which on packets wait
KEEPALIVE = 60.0  # s
KEEPALIVE_JITTER = 5.0  # s
MAX_PING = 1000  # bytes
DISCO_MAGIC = b"TS\xf0\x9f\x92\xac"
DISCO_MIN = 62  # bytes


class Relay(Protocol):
    """What a connection needs of its server."""

    private: NodePrivate
    public: NodePublic
    now: Callable[[], float]
    random_bytes: Callable[[int], bytes]
    drops: Counter[str]
    relayed: int
    buffer: memoryview

    def opened(self, client: "Client") -> None:
        """The connection is there."""

    def closed(self, client: "Client") -> None:
        """The connection ended."""

    def registered(self, client: "Client", key: NodePublic) -> None:
        """The client proved who it is."""

    def active(self, client: "Client", key: NodePublic) -> None:
        """The client sent a packet."""

    def target(self, key: NodePublic) -> "Client | None":
        """Who gets packets for this key."""


class Client(asyncio.BufferedProtocol):
    """HTTP first; after the upgrade, frames.

    Attributes:
        key: who it is; ``None`` until it proved it.
        reached: keys of the clients that got packets from it.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._transport: asyncio.Transport | None = None
        self._head: bytearray | None = bytearray()  # None once upgraded
        self._reader = FrameReader(Kind.SEND_PACKET)
        self._waiting: tuple[deque[bytes], deque[bytes]] = (deque(), deque())  # disco, data
        self._blocked = False
        self._pong: bytes | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._not_here = TokenBucket(1, 3, relay.now())
        self.key: NodePublic | None = None
        self.reached: set[NodePublic] = set()

    # --- asyncio.BufferedProtocol ----------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP, and TLS if any, is there."""
        if isinstance(transport, asyncio.Transport):
            transport.set_write_buffer_limits(HIGH_WATER)
            self._transport = transport
            self._relay.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next read goes; all connections share it."""
        return self._relay.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes from the client."""
        if self._transport is None:
            return
        try:
            self._handle_data(bytes(self._relay.buffer[:nbytes]))
        except BadPacket:
            self.close()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._blocked = True

    def resume_writing(self) -> None:
        """The socket takes data again."""
        self._blocked = False
        disco, data = self._waiting
        self.write(b"".join((self._pong or b"", *disco, *data)))
        self._pong = None
        disco.clear()
        data.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream ended."""
        self._transport = None
        if self._keepalive is not None:
            self._keepalive.cancel()
        self._relay.closed(self)

    # --- for the server --------------------------------------------------------

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def expect_registered(self) -> None:
        """The time for the handshake is over."""
        if self.key is None:
            self.close()

    def write(self, data: bytes) -> None:
        """Write frames, however full the socket is: for the few that must not be lost."""
        if self._transport is not None and data:
            # A view, since TLS takes it in records of 16 KiB and would cut bytes by copying.
            self._transport.write(memoryview(data))

    def deliver(self, source: NodePublic, packets: Sequence[bytes]) -> None:
        """Hand packets on; those that a full socket leaves no room for are dropped."""
        if not self._blocked:
            self.write(b"".join(frames.encode_packets(Kind.RECV_PACKET, source, packets)))
            return
        for packet in packets:
            queue = self._waiting[not _is_disco(packet)]
            if len(queue) >= QUEUE:
                queue.popleft()
                self._relay.drops["queue full"] += 1
            queue.append(b"".join(frames.encode_packets(Kind.RECV_PACKET, source, (packet,))))

    # --- inside ----------------------------------------------------------------

    def _handle_data(self, data: bytes) -> None:
        while self._head is not None:
            self._head += data
            head, end, rest = bytes(self._head).partition(derp_http.END)
            if not end:
                if len(head) > derp_http.MAX_HEAD:
                    self.close()
                return
            self._head = bytearray()
            data = rest
            self._handle_request(derp_http.parse_request_untrusted(head))
        received = self._reader.feed_untrusted(data)
        for kind, key, bodies in received:
            if not key:
                self._handle_frame(kind, bodies[0])
        if self.key is not None:
            self._relay_packets(self.key, received)

    def _handle_request(self, request: derp_http.Request) -> None:
        if request.wants_derp:
            self._head = None
            if not request.fast_start:
                self.write(derp_http.upgrade_response(self._relay.public))
            self.write(frames.encode_server_key(self._relay.public))
            return
        self.write(derp_http.respond(request))
        last = request.headers.get("connection", "").lower() == "close"
        if (last or request.method not in {"GET", "HEAD"}) and self._transport is not None:
            self._transport.close()

    def _handle_frame(self, kind: int, body: bytes) -> None:
        if self.key is None:
            if kind != Kind.CLIENT_INFO:
                msg = "the first frame is not ClientInfo"
                raise BadPacket(msg)
            self._register(body)
        elif kind == Kind.PING:
            if not frames.PING_LEN <= len(body) <= MAX_PING:
                msg = "bad length of a ping"
                raise BadPacket(msg)
            pong = frames.encode_frame(Kind.PONG, body[: frames.PING_LEN])
            if self._blocked:
                self._pong = self._pong or pong
            else:
                self.write(pong)

    def _register(self, body: bytes) -> None:
        relay = self._relay
        key, box, _ = frames.parse_client_info_untrusted(body, relay.private)
        self.key = key
        info = frames.ServerInfo(version=frames.PROTOCOL_VERSION)
        self.write(frames.encode_server_info(box, relay.random_bytes(NONCE_LEN), info))
        jitter = int.from_bytes(relay.random_bytes(2), "big") / 0x10000
        self._keep_alive(KEEPALIVE + KEEPALIVE_JITTER * jitter)
        relay.registered(self, key)

    def _keep_alive(self, every: float, *, first: bool = True) -> None:
        if not first and not self._blocked:
            self.write(frames.encode_frame(Kind.KEEP_ALIVE))
        loop = asyncio.get_running_loop()
        again = lambda: self._keep_alive(every, first=False)  # noqa: E731 - call_later takes no names
        self._keepalive = loop.call_later(every, again)

    def _relay_packets(self, key: NodePublic, received: Sequence[Frame]) -> None:
        groups = frames.packets_of(received, Kind.SEND_PACKET)
        if not groups:
            return
        self._relay.active(self, key)
        for destination, packets in groups:
            if max(map(len, packets)) > frames.MAX_PACKET:
                msg = "packet is too long"
                raise BadPacket(msg)
            target = self._relay.target(destination)
            if target is None:
                self._relay.drops["unknown destination"] += len(packets)
                if any(map(_is_disco, packets)) and self._not_here.take(1, self._relay.now()):
                    self.write(frames.encode_peer_gone(destination, 1))
                continue
            self._relay.relayed += len(packets)
            self.reached.add(destination)
            target.deliver(key, packets)


def _is_disco(packet: bytes) -> bool:
    return packet.startswith(DISCO_MAGIC) and len(packet) >= DISCO_MIN
