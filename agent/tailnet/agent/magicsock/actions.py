"""What a path machine wants done."""

from typing import NamedTuple

from tailnet.agent.addr import AddrPort, ViaAddr


class SendPing(NamedTuple):
    """Ping ``to`` (``None``: through DERP); ``size`` is the IP packet wanted, 0 the least."""

    to: AddrPort | ViaAddr | None
    txid: bytes
    size: int


class SendCallMeMaybe(NamedTuple):
    """Tell the peer, through its relay, where we are."""


class SeekRelay(NamedTuple):
    """A peer relay is wanted, if none was looked for in the last ``floor`` seconds."""

    floor: float


class Answered(NamedTuple):
    """The first pong for a user's ping came; ``via`` ``None`` is DERP."""

    ticket: int
    latency: float
    via: AddrPort | ViaAddr | None


class Idle(NamedTuple):
    """The heartbeat stopped; the next data must be noticed."""


Action = SendPing | SendCallMeMaybe | SeekRelay | Answered | Idle
