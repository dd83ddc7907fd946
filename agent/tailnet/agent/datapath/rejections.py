"""What peers told us about flows of ours that they do not let in."""

from collections import Counter, deque
from typing import NamedTuple

from tailnet.agent.datapath import tsmp
from tailnet.agent.filter.flows import Flow
from tailnet.agent.keys import PeerId

LATEST = 64  # remembered

REASONS: dict[str, str] = {
    tsmp.Reason.RULES: "rules",
    tsmp.Reason.SHIELDS_UP: "shields up",
    tsmp.Reason.FORWARDING: "forwarding off",
    tsmp.Reason.FIREWALL: "host firewall",
    tsmp.Reason.TRANSIT: "unknown transit address",
}
OTHER = "other reason"


class Rejection(NamedTuple):
    """One message; ``flow`` is as it left us, ``reason`` one of :data:`REASONS` or ``OTHER``."""

    at: float  # seconds, as clock.now
    peer: PeerId
    flow: Flow
    reason: str
    maybe_broken: bool


class Rejections:
    """The latest ones, and how many there were.

    Attributes:
        latest: the newest is last.
        counts: by reason.
    """

    def __init__(self) -> None:
        self.latest: deque[Rejection] = deque(maxlen=LATEST)
        self.counts: Counter[str] = Counter()

    def note(self, peer: PeerId, message: tsmp.Rejected, now: float) -> None:
        """A peer said this; whether it is true is for the reader to judge."""
        reason = REASONS.get(message.reason, OTHER)
        self.counts[reason] += 1
        self.latest.append(Rejection(now, peer, message.flow, reason, message.maybe_broken))
