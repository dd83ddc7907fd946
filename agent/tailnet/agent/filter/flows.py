"""What left lately over protocols without connections, so that the replies may enter.

Source: tailscale net/flowtrack/flowtrack.go; wgengine/filter/filter.go, lruMax.
"""

from typing import NamedTuple

MAX_FLOWS = 512


class Flow(NamedTuple):
    """A 5-tuple as the reply will carry it; addresses are packed (4 or 16 bytes)."""

    proto: int
    src: bytes
    dst: bytes
    src_port: int
    dst_port: int


class FlowCache:
    """The latest :data:`MAX_FLOWS` flows; no time-out.

    It outlives every version of the rules: a change of policy does not cut replies.
    """

    __slots__ = ("_flows", "_limit")

    def __init__(self, limit: int = MAX_FLOWS) -> None:
        self._flows: dict[Flow, None] = {}  # the oldest first
        self._limit = limit

    def clear(self) -> None:
        """Nothing was sent."""
        self._flows.clear()

    def __len__(self) -> int:
        return len(self._flows)

    def note_sent(self, proto: int, src: bytes, dst: bytes, src_port: int, dst_port: int) -> None:
        """Admit the replies to an outbound packet from now on."""
        flow = Flow(proto, dst, src, dst_port, src_port)
        flows = self._flows
        flows.pop(flow, None)
        flows[flow] = None
        if len(flows) > self._limit:
            del flows[next(iter(flows))]

    def is_reply(self, flow: Flow) -> bool:
        """True if ``flow`` answers something sent; it then counts as fresh."""
        flows = self._flows
        if flow not in flows:
            return False
        del flows[flow]
        flows[flow] = None
        return True
