"""What a path machine wants done."""

from typing import NamedTuple

from tailnet.agent.addr import AddrPort


class SendPing(NamedTuple):
    """Ping ``to`` (``None``: through the relay); ``size`` is the IP packet wanted, 0 the least."""

    to: AddrPort | None
    txid: bytes
    size: int


class SendCallMeMaybe(NamedTuple):
    """Tell the peer, through its relay, where we are."""


class Answered(NamedTuple):
    """The first pong for a user's ping came; ``via`` ``None`` is the relay."""

    ticket: int
    latency: float
    via: AddrPort | None


class Idle(NamedTuple):
    """The heartbeat stopped; the next data must be noticed."""


Action = SendPing | SendCallMeMaybe | Answered | Idle
