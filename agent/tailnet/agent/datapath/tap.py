"""What a tap says of a packet: one message of a packet socket, integers little-endian.

::

    0           1          2      8      16     24
    direction | dropped  | zero | peer | time | IP packet …

    direction  0: to the operating system, 1: from it
    dropped    0: it went on; else one more than the place of the drop counter's name
    peer       all ones: none
    time       nanoseconds since 1970
"""

from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.parse import Buffer
from tailnet.agent.keys import PeerId

_HEAD = Struct("<BB6xQQ")
_NO_PEER = (1 << 64) - 1

MAX_RECORD = _HEAD.size + 0xFFFF + 40  # bytes


class Direction(IntEnum):
    """Which way a packet goes."""

    IN = 0
    OUT = 1


class Tapped(NamedTuple):
    """One packet.  ``dropped``: the drop counter's name, empty if it went on; ``at``: ns, UTC."""

    direction: Direction
    dropped: str
    peer: PeerId | None
    at: int
    packet: Buffer


def encode(tapped: Tapped, reasons: Sequence[str]) -> bytes:
    """A record; ``reasons``: names of the drop counters."""
    dropped = reasons.index(tapped.dropped) + 1 if tapped.dropped else 0
    peer = _NO_PEER if tapped.peer is None else tapped.peer
    return _HEAD.pack(tapped.direction, dropped, peer, tapped.at) + tapped.packet


def parse_untrusted(record: bytes, reasons: Sequence[str]) -> Tapped:
    """The opposite.

    Raises:
        BadPacket: not a record.
    """
    if len(record) < _HEAD.size:
        msg = "short record"
        raise BadPacket(msg)
    direction, dropped, peer, at = _HEAD.unpack_from(record)
    if direction > Direction.OUT or dropped > len(reasons):
        msg = "not a record of a tap"
        raise BadPacket(msg)
    return Tapped(
        Direction(direction),
        reasons[dropped - 1] if dropped else "",
        None if peer == _NO_PEER else PeerId(peer),
        at,
        record[_HEAD.size :],
    )
