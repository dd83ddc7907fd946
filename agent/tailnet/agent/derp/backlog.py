"""Packets of one region that wait to be written, and the relay's advice on rate."""

from collections import Counter
from collections.abc import Sequence

from tailnet.agent.derp.frames import HEADER_LEN, MAX_PACKET, Kind, encode_packets
from tailnet.agent.keys import KEY_LEN, NodePublic

WRITE_QUEUE = 32  # packets; magicsock/derp.go bufferedDerpWritesBeforeDrop


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
    """Encoded ``SendPacket`` frames in order; it outlives the connection that drains it.

    While the connection takes data, one burst may be any size, since it is written at once.  While
    it does not, at most ``WRITE_QUEUE`` packets wait, and the oldest is dropped for a new one.

    Attributes:
        waiting: nobody drains it now: there is no connection, or its socket is full.
        bucket: the relay's limit, if it gave one.
        size: bytes in the queue.
        drops: packets dropped, by reason; shared by all regions.
    """

    __slots__ = ("_parts", "bucket", "drops", "size", "waiting")

    def __init__(self, drops: Counter[str]) -> None:
        self._parts: list[bytes] = []  # header, packet, header, packet, …
        self.size = 0
        self.waiting = True
        self.bucket: TokenBucket | None = None
        self.drops = drops

    def __len__(self) -> int:
        return len(self._parts) // 2

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
        self._parts += encode_packets(Kind.SEND_PACKET, dst, packets)
        self.size += sum(map(len, packets)) + (HEADER_LEN + KEY_LEN) * len(packets)
        if self.waiting:
            self._trim()

    def hold(self) -> None:
        """Nobody drains the queue from now on."""
        self.waiting = True
        self._trim()

    def _trim(self) -> None:
        excess = len(self) - WRITE_QUEUE
        if excess > 0:
            self.size -= sum(map(len, self._parts[: 2 * excess]))
            del self._parts[: 2 * excess]
            self.drops["write queue full"] += excess

    def take(self) -> bytes:
        """Everything, as one write; empty if there is nothing."""
        data = b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        return data

    def clear(self, reason: str) -> None:
        """Drop everything."""
        self.drops[reason] += len(self)
        self._parts.clear()
        self.size = 0
