"""Packets of one region that wait to be written, and the relay's advice on rate."""

from collections import Counter
from collections.abc import Sequence

from tailnet.agent.derp.frames import HEADER_LEN, MAX_PACKET, Kind, encode_packets
from tailnet.agent.keys import KEY_LEN, NodePublic

WRITE_QUEUE = 32  # packets per destination; magicsock/derp.go bufferedDerpWritesBeforeDrop
BURST_QUEUE = (
    256  # packets per destination while the connection takes data: super-packets of a stream
)
WINDOW = 31  # packets per destination; derpserver.go keeps 32 (defaultPerClientSendQueueDepth)
MAX_WAITING = 4096  # packets of all destinations


class TokenBucket:
    """The relay's limit on what we send: a packet that does not fit is not sent.

    Source: derp_client.go setSendRateLimiter (golang.org/x/time/rate AllowN).
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """``rate`` in bytes per second, ``burst`` in bytes; begins full."""
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, now

    def take(self, size: int, now: float) -> bool:
        """Spend ``size`` bytes if they are there."""
        elapsed = max(0.0, now - self._at)
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
        self._at = now
        if size > self._tokens:
            return False
        self._tokens -= size
        return True


class Backlog:
    """Encoded ``SendPacket`` frames, a queue per destination; it outlives the connection.

    A relay keeps 32 packets for a client and drops what comes on top, however fast its links are.
    So a window of each queue leaves at once, and the next one when :meth:`open_windows` says that
    the relay has had the time to hand the last one on.

    A full queue drops its oldest packet.  While nobody drains it, it is as short as upstream's.

    Attributes:
        waiting: nobody drains it now: there is no connection, or its socket is full.
        bucket: the relay's limit, if it gave one.
        size: bytes in all queues.
        drops: packets dropped, by reason; shared by all regions.
    """

    __slots__ = ("_count", "_queues", "_taken", "bucket", "drops", "size", "waiting")

    def __init__(self, drops: Counter[str]) -> None:
        self._queues: dict[NodePublic, list[bytes]] = {}  # header, packet, header, packet, …
        self._taken: dict[NodePublic, int] = {}  # parts that left in this window
        self._count = 0
        self.size = 0
        self.waiting = True
        self.bucket: TokenBucket | None = None
        self.drops = drops

    def __len__(self) -> int:
        return self._count

    def push(self, dst: NodePublic, packets: Sequence[bytes], now: float) -> None:
        """Append packets for ``dst``."""
        if max(map(len, packets), default=0) > MAX_PACKET:
            short = [packet for packet in packets if len(packet) <= MAX_PACKET]
            self.drops["too long"] += len(packets) - len(short)
            packets = short
        if (bucket := self.bucket) is not None:
            extra = HEADER_LEN + KEY_LEN
            fit = [packet for packet in packets if bucket.take(extra + len(packet), now)]
            self.drops["relay's rate limit"] += len(packets) - len(fit)
            packets = fit
        if not packets:
            return
        queue = self._queues.setdefault(dst, [])
        queue += encode_packets(Kind.SEND_PACKET, dst, packets)
        self._count += len(packets)
        self.size += sum(map(len, packets)) + (HEADER_LEN + KEY_LEN) * len(packets)
        self._trim(dst, queue, WRITE_QUEUE if self.waiting else BURST_QUEUE)
        while self._count > MAX_WAITING:
            oldest = next(iter(self._queues))
            self._trim(oldest, self._queues[oldest], 0)

    def hold(self) -> None:
        """Nobody drains the queues from now on."""
        self.waiting = True
        for dst, queue in list(self._queues.items()):
            self._trim(dst, queue, WRITE_QUEUE)

    def _trim(self, dst: NodePublic, queue: list[bytes], limit: int) -> None:
        excess = len(queue) // 2 - limit
        if excess > 0:
            self.size -= sum(map(len, queue[: 2 * excess]))
            self._count -= excess
            self.drops["write queue full"] += excess
            del queue[: 2 * excess]
            if not queue:
                del self._queues[dst]

    def open_windows(self) -> None:
        """The relay is ready for a window of packets to each destination."""
        self._taken.clear()

    def take(self) -> bytes:
        """What the windows let pass, as one write; empty if there is nothing."""
        parts: list[bytes] = []
        taken = self._taken
        for dst, queue in list(self._queues.items()):
            room = 2 * WINDOW - taken.get(dst, 0)
            if len(queue) <= room:
                taken[dst] = 2 * WINDOW - room + len(queue)
                parts += queue
                del self._queues[dst]
            elif room:
                taken[dst] = 2 * WINDOW
                parts += queue[:room]
                del queue[:room]
        data = b"".join(parts)
        self._count -= len(parts) // 2
        self.size -= len(data)
        return data

    def clear(self, reason: str) -> None:
        """Drop everything."""
        self.drops[reason] += len(self)
        self._queues.clear()
        self._count = self.size = 0
