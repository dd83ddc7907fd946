"""Three parts of rules as iptables' own extensions.

In ``ip`` and ``ip6`` tables, which iptables shares, it refuses to list or to save a table with an
expression that it cannot translate, and native marks, masquerading and states of connections are
such.  As extensions of its own it knows them.

::

    MARK rev 2          value u32 | mask u32
    MASQUERADE rev 0    IPv4: ranges u32 = 1 | flags u32 | 2 addresses | 2 ports, padded to 24
                        IPv6: flags u32 | 2 addresses | 2 ports; all zero, 40
    conntrack rev 3     146 bytes of other matches | flags u16 = 1, state | inverted u16, the same
                        | states u16 | padded to 168

Numbers are in the byte order of the host.

Source: Linux include/uapi/linux/netfilter/xt_mark.h, nf_nat.h, xt_conntrack.h; iptables 1.8.
"""

import struct
from typing import Any

from tailnet.platform.linux.nft.library import genex
from tailnet.platform.linux.nft.syntax import Ct, CtState, Family, Masquerade, Part, SetMark

COMMENT = "comment"  # the match in which iptables keeps the comment of a rule that it writes itself

_STATE = 1  # XT_CONNTRACK_STATE
_UNTRACKED = 256  # native: 64
_CONNTRACK_BEFORE, _CONNTRACK_SIZE = 146, 168


def extension(part: Part, family: Family) -> Any | None:  # noqa: ANN401 - pyroute2's tree
    """The part as an extension; ``None``: iptables understands it as it is."""
    match part:
        case SetMark(value, mask):
            return _extension("target", "MARK", 2, struct.pack("=II", value, mask))
        case Masquerade():
            info = struct.pack("=I20x", 1) if family is Family.IPV4 else bytes(40)
            return _extension("target", "MASQUERADE", 0, info)
        case CtState(states, invert):
            wanted = int(states & ~Ct.UNTRACKED) | (_UNTRACKED if Ct.UNTRACKED in states else 0)
            flags = struct.pack("=HHH", _STATE, _STATE if invert else 0, wanted)
            info = (bytes(_CONNTRACK_BEFORE) + flags).ljust(_CONNTRACK_SIZE, b"\0")
            return _extension("match", "conntrack", 3, info)
    return None


def _extension(kind: str, name: str, revision: int, info: bytes) -> Any:  # noqa: ANN401
    return genex(kind, {"name": name, "rev": revision, "info": info})
