"""Captured packets as a file that Wireshark and tcpdump read: pcapng, little-endian.

::

    block    type (4) | length (4) | body, padded to 4 | length (4)
    section  0A0D0D0A | 1A2B3C4D | 1.0 | length unknown | options
    interface       1 | link type 101: IP | 0 | no limit | options: name, times in ns
    packet          6 | interface 0 | time (high, low) | length | length | packet | options
    option   code (2) | length (2) | value, padded to 4

Source: draft-ietf-opsawg-pcapng §3.5, §4.1 to §4.3.
"""

import struct

from tailnet.agent.datapath.tap import Direction, Tapped
from tailnet.agent.filter.parse import Buffer

CONTENT_TYPE = "application/x-pcapng"

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_LINKTYPE_RAW = 101
_COMMENT, _IF_NAME, _FLAGS, _RESOLUTION, _APPLICATION = 1, 2, 2, 9, 4
_NANOSECONDS = 9
_WAY = {Direction.IN: 1, Direction.OUT: 2}


def head(application: str, interface: str) -> bytes:
    """What a file begins with.

    Args:
        application: who wrote it.
        interface: name of the device.
    """
    section = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1)
    device = struct.pack("<HHI", _LINKTYPE_RAW, 0, 0)
    options = _option(_IF_NAME, interface.encode()) + _option(_RESOLUTION, bytes((_NANOSECONDS,)))
    return _block(_SECTION, section + _end(_option(_APPLICATION, application.encode()))) + _block(
        _INTERFACE, device + _end(options)
    )


def packet(tapped: Tapped, peer: str) -> bytes:
    """One packet; its comment says with whom, and why it went no further if it did not.

    Args:
        tapped: as the datapath gave it.
        peer: name of the other side; empty for none.
    """
    size = len(tapped.packet)
    high, low = tapped.at >> 32, tapped.at & 0xFFFFFFFF
    said = [f"peer {peer}"] if peer else []
    said += [f"dropped: {tapped.dropped}"] if tapped.dropped else []
    options = _option(_FLAGS, struct.pack("<I", _WAY[tapped.direction]))
    if said:
        options += _option(_COMMENT, ", ".join(said).encode())
    front = struct.pack("<IIIII", 0, high, low, size, size)
    return _block(_PACKET, front + _padded(tapped.packet) + _end(options))


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _end(options: bytes) -> bytes:
    return options + bytes(4)


def _padded(data: Buffer) -> bytes:
    return bytes(data) + bytes(-len(data) % 4)
