"""Time stamps of initiations: greater means later.

::

    u64be 0x400000000000000a + seconds since 1970   u32be nanoseconds

The low 24 bits of the nanoseconds are cleared to hide the fine clock, so a stamp changes every
16.8 ms.

Source: https://cr.yp.to/libtai/tai64.html; wireguard-go tai64n/tai64n.go.
"""

from datetime import UTC, datetime, timedelta

STAMP_LEN = 12  # bytes

_BASE = 0x400000000000000A
_WHITEN = 0xFF000000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)


def stamp(wall: datetime) -> bytes:
    """12 bytes; byte order is time order."""
    seconds, rest = divmod(wall - _EPOCH, _SECOND)
    nanoseconds = rest // _MICROSECOND * 1000 & _WHITEN
    return (_BASE + seconds).to_bytes(8, "big") + nanoseconds.to_bytes(4, "big")


def stamp_after(wall: datetime, last: bytes) -> bytes:
    """The stamp of ``wall``, or the least one greater than ``last`` if the clock went back."""
    now = stamp(wall)
    if now > last:
        return now
    seconds, nanoseconds = int.from_bytes(last[:8], "big"), int.from_bytes(last[8:], "big")
    nanoseconds += 1 << 24
    if nanoseconds >= 1_000_000_000:
        seconds, nanoseconds = seconds + 1, 0
    return seconds.to_bytes(8, "big") + nanoseconds.to_bytes(4, "big")
