"""What was carried, by the kind of path it took."""

from tailnet.agent.datapath.interface import Carried

KINDS = ("direct_ipv4", "direct_ipv6", "derp", "peer_relay_ipv4", "peer_relay_ipv6")
DERP = 2


def kind(family: int, *, via: bool) -> int:
    """Of a path by UDP, directly or by a peer relay; an index into :data:`KINDS`."""
    return (3 if via else 0) + (family == 6)


class Traffic:
    """Counters of both directions."""

    __slots__ = ("_in", "_out")

    def __init__(self) -> None:
        self._in = [[0, 0] for _ in KINDS]
        self._out = [[0, 0] for _ in KINDS]

    def received(self, kind: int, packets: int, size: int) -> None:
        """From a peer; ``size`` in bytes of IP."""
        known = self._in[kind]
        known[0] += packets
        known[1] += size

    def sent(self, kind: int, packets: int, size: int) -> None:
        """To a peer."""
        known = self._out[kind]
        known[0] += packets
        known[1] += size

    def snapshot(self) -> dict[str, Carried]:
        """By name."""
        both = zip(KINDS, self._in, self._out, strict=True)
        return {name: Carried(*received, *sent) for name, received, sent in both}
