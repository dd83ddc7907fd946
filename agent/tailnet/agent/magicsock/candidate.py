"""Addresses at which a peer may be reached."""

from typing import NamedTuple

from tailnet.agent.addr import AddrPort

MAX_CANDIDATES = 100  # per peer, from all sources
MAX_LISTED = 64  # addresses taken from one netmap entry or CallMeMaybe
HEARD_LIFETIME = 45.0  # seconds that an address learned from a ping is kept without another
PING_FLOOR = 0.5  # seconds at least between discovery pings to one address
PRESENT = 1.0  # seconds after which nothing follows any longer from where a peer was heard


PONGS = 8  # remembered per address, for people


class Pong(NamedTuple):
    """An answer: when it came and how long it took, both [s]; whom the peer saw."""

    at: float
    latency: float
    seen: AddrPort | None = None


def usable(addr: AddrPort) -> bool:
    """False for what cannot be a peer: no port, no host, a group, or a link without its scope."""
    packed = addr.ip.packed
    if addr.port == 0:
        return False
    if len(packed) == 4:
        return 0 < packed[0] < 224
    return (
        any(packed) and packed[0] != 0xFF and not (packed[0] == 0xFE and packed[1] & 0xC0 == 0x80)
    )


class Candidate:
    """One address, and why we believe in it.

    Attributes:
        netmap: control lists it.
        called: the peer's latest CallMeMaybe lists it.
        heard_at: when a ping came from it [s].
        heard_txid: that ping's transaction id.
        pinged_at: when we pinged it [s].
        returned_at: when we last did because a ping came from it [s].
        pongs: its last answers, latest last.
        wire_mtu: largest IP packet that was answered [bytes]; 0 if sizes were not tried.
    """

    __slots__ = (
        "called",
        "heard_at",
        "heard_txid",
        "netmap",
        "pinged_at",
        "pongs",
        "returned_at",
        "wire_mtu",
    )

    def __init__(self) -> None:
        self.netmap = False
        self.called = False
        self.heard_at: float | None = None
        self.heard_txid = b""
        self.pinged_at: float | None = None
        self.returned_at: float | None = None
        self.pongs: tuple[Pong, ...] = ()
        self.wire_mtu = 0

    def set_netmap(self, claimed: bool) -> None:
        """Whether control lists it."""
        self.netmap = claimed

    def set_called(self, claimed: bool) -> None:
        """Whether the peer's latest CallMeMaybe lists it."""
        self.called = claimed

    @property
    def answered_at(self) -> float | None:
        """When the last pong came [s]."""
        return self.pongs[-1].at if self.pongs else None

    @property
    def latency(self) -> float | None:
        """Of the last pong [s]."""
        return self.pongs[-1].latency if self.pongs else None

    def answered(self, pong: Pong, size: int) -> None:
        """A pong came; ``size`` is that of the ping [bytes], 0 for the smallest."""
        self.pongs = (*self.pongs[1 - PONGS :], pong)
        self.wire_mtu = max(self.wire_mtu, size)

    def expired(self, now: float) -> bool:
        """True when nobody claims the address: not control, not the peer, and no recent ping."""
        if self.netmap or self.called:
            return False
        if self.heard_at is None:
            return True
        return now - max(self.heard_at, self.answered_at or 0.0) > HEARD_LIFETIME

    def may_ping(self, now: float) -> bool:
        """True when the last discovery ping is long enough ago."""
        return self.pinged_at is None or now - self.pinged_at >= PING_FLOOR

    def may_return(self, now: float) -> bool:
        """True when a ping from it may be returned, however lately it was pinged.

        Our last ping may have been too early for the peer's NAT; but two that cannot hear pongs
        must not ping each other for ever.
        """
        return self.returned_at is None or now - self.returned_at >= PING_FLOOR

    def present(self, now: float) -> bool:
        """True when the peer was just heard from there: no NAT is in between, or it is open."""
        return self.heard_at is not None and now - self.heard_at < PRESENT

    def forget_probes(self) -> None:
        """What was measured on another network says nothing now."""
        self.heard_txid = b""
        self.pinged_at = self.returned_at = None
        self.pongs = ()
        self.wire_mtu = 0
