"""Which offloads UDP sockets use: a few kernels and drivers get them wrong.

========================================  ==========================================================
defect                                    what is done
========================================  ==========================================================
Linux 7.0 to 7.1.4 damages groups of      each such group gets one more datagram, of one byte, that
equal datagrams (UDP_SEGMENT)             every receiver drops; or where the environment says so
drivers without checksum offload          EIO: segmentation is off for that socket (the datapath)
others, unknown                           the environment switches segmentation or reception off
========================================  ==========================================================

Source: Linux commits b10b446 and 78effd8, 5f17ae0; tailscale net/batching/conn_linux.go.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

NO_GSO = "TS_DEBUG_DISABLE_UDP_GSO"
NO_GRO = "TS_DEBUG_DISABLE_UDP_GRO"
SENTINEL = "TS_DEBUG_NEVER_GSO_EQUAL_TAIL"

_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_DAMAGED, _MENDED = (7, 0, 0), (7, 1, 5)
_YES, _NO = frozenset({"1", "t", "true", "yes"}), frozenset({"0", "f", "false", "no"})


class Offload(NamedTuple):
    """``gso``, ``gro``: try them.  ``sentinel``: no group may consist of equal datagrams."""

    gso: bool = True
    gro: bool = True
    sentinel: bool = False


PLAIN = Offload()


def choose(release: str, environ: Mapping[str, str]) -> Offload:
    """For a kernel, as ``uname -r`` calls it; the environment comes first."""

    def asked(name: str) -> str:
        return environ.get(name, "").lower()

    sentinel = asked(SENTINEL) in _YES or (damages(release) and asked(SENTINEL) not in _NO)
    return Offload(asked(NO_GSO) not in _YES, asked(NO_GRO) not in _YES, sentinel)


def damages(release: str) -> bool:
    """The kernel is one of those that damage groups of equal datagrams."""
    found = _RELEASE.match(release)
    if found is None:
        return False
    major, minor, patch = (int(number or 0) for number in found.groups())
    return _DAMAGED <= (major, minor, patch) < _MENDED
