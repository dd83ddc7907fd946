"""The verdict on one packet.

Source: tailscale wgengine/filter/filter.go, RunIn, RunOut, pre, runIn4, runIn6.
"""

from collections.abc import Callable
from enum import Enum, auto

from tailnet.agent.filter.flows import Flow, FlowCache
from tailnet.agent.filter.parse import (
    ACK,
    FRAGMENT,
    ICMP4,
    ICMP6,
    SCTP,
    SYN,
    TCP,
    TSMP,
    UDP,
    UNKNOWN,
    Parsed,
)
from tailnet.agent.filter.rules import Filter

IsLocal = Callable[[bytes], bool]
"""True for a packed destination that inbound packets may have."""

MAX_VERDICTS = 4096  # rule lookups remembered per filter

_METADATA = bytes((169, 254, 169, 254))  # the one link-local address that clouds make useful
_ICMP4_ERRORS = frozenset({3, 11, 0x12})  # upstream's parameter problem is 0x12, not 12
_ICMP6_ERRORS = frozenset({1, 2, 3, 4})
_ECHO_REPLY = {4: 0, 6: 129}
_ECHO_LEN = 8


class Verdict(Enum):
    """Why a packet may pass, or which counter it goes to."""

    ACCEPT = auto()
    UNKNOWN = auto()
    MULTICAST = auto()
    LINK_LOCAL = auto()
    NOT_LOCAL = auto()
    DENIED = auto()


def precheck(packet: Parsed) -> Verdict | None:
    """What holds in both directions; ``None`` means: look further."""
    if packet.proto == UNKNOWN:
        return Verdict.UNKNOWN
    dst = packet.dst
    if len(dst) == 4:
        if dst[0] >> 4 == 0xE:
            return Verdict.MULTICAST
        if dst[0] == 169 and dst[1] == 254 and dst != _METADATA:
            return Verdict.LINK_LOCAL
    elif dst[0] == 0xFF:
        return Verdict.MULTICAST
    elif dst[0] == 0xFE and dst[1] & 0xC0 == 0x80:
        return Verdict.LINK_LOCAL
    return Verdict.ACCEPT if packet.proto == FRAGMENT else None


class Matcher:
    """Rules, local destinations and flow state together.

    Flow state outlives the rules: :meth:`set_filter` keeps it.
    """

    __slots__ = ("_filter", "_is_local", "_verdicts", "flows")

    def __init__(self, is_local: IsLocal) -> None:
        self._filter: Filter = Filter.shields_up()
        self._is_local = is_local
        # Rule lookups of (proto, src, dst, port): a busy flow asks the rules once.
        self._verdicts: dict[tuple[int, bytes, bytes, int], bool] = {}
        self.flows = FlowCache()

    @property
    def closed(self) -> bool:
        """The user wants nothing new to come in."""
        return self._filter.closed

    def set_filter(self, packet_filter: Filter) -> None:
        """Use new rules from the next packet on."""
        self._filter = packet_filter
        self._verdicts.clear()

    def outbound(self, packet: Parsed) -> Verdict:
        """Everything may leave but nonsense; UDP and SCTP open the way for replies."""
        verdict = precheck(packet)
        if verdict is not None:
            return verdict
        self.note_sent(packet)
        return Verdict.ACCEPT

    def note_sent(self, packet: Parsed) -> None:
        """Record flow state of a packet that leaves without a verdict."""
        if packet.proto in (UDP, SCTP):
            self.flows.note_sent(
                packet.proto, packet.src, packet.dst, packet.src_port, packet.dst_port
            )

    def inbound(self, packet: Parsed) -> Verdict:
        """May a packet from a peer, its source already checked, come in?"""
        verdict = precheck(packet)
        if verdict is not None:
            return verdict
        if not self._is_local(packet.dst):
            return Verdict.NOT_LOCAL
        return Verdict.ACCEPT if self._accepts(packet) else Verdict.DENIED

    def _accepts(self, packet: Parsed) -> bool:
        proto, src, dst, port = packet.proto, packet.src, packet.dst, packet.dst_port
        if proto == TCP:
            # Only an opening SYN asks the rules: a stray segment finds no socket anyway.
            if packet.flags & (SYN | ACK) != SYN:
                return True
        elif proto in (UDP, SCTP):
            if self.flows.is_reply(Flow(proto, src, dst, packet.src_port, port)):
                return True
        elif proto == TSMP or _is_icmp_answer(packet):
            return True
        key = (proto, src, dst, port)
        verdict = self._verdicts.get(key)
        if verdict is None:
            if len(self._verdicts) >= MAX_VERDICTS:
                self._verdicts.clear()
            verdict = self._verdicts[key] = self._ask_rules(packet)
        return verdict

    def _ask_rules(self, packet: Parsed) -> bool:
        version, proto = packet.version, packet.proto
        src, dst = int.from_bytes(packet.src, "big"), int.from_bytes(packet.dst, "big")
        if proto in (TCP, UDP, SCTP):
            return self._filter.allows(version, proto, src, dst, packet.dst_port)
        if proto == (ICMP4 if version == 4 else ICMP6):
            return self._filter.allows_addresses(version, src, dst)
        return self._filter.allows_protocol(version, proto, src, dst)


def _is_icmp_answer(packet: Parsed) -> bool:
    """Echo replies and errors: answers to something that left."""
    kind = packet.flags
    if packet.proto == ICMP4 and packet.version == 4:
        errors = _ICMP4_ERRORS
    elif packet.proto == ICMP6 and packet.version == 6:
        errors = _ICMP6_ERRORS
    else:
        return False
    if kind in errors:
        return True
    long_enough = packet.length - packet.payload >= _ECHO_LEN
    return kind == _ECHO_REPLY[packet.version] and packet.code == 0 and long_enough
