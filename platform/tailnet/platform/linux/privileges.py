"""What this process may do, from its effective capabilities.

Source: capabilities(7); proc_pid_status(5).
"""

import os
from dataclasses import dataclass
from pathlib import Path

CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
CAP_NET_BIND_SERVICE = 10


@dataclass(frozen=True, slots=True)
class Privileges:
    """Of this process.

    Attributes:
        uid: effective user.
        capabilities: effective, one bit each, as in capability.h.
    """

    uid: int
    capabilities: int

    def has(self, capability: int) -> bool:
        """Whether the capability of this number is in effect."""
        return bool(self.capabilities >> capability & 1)

    @property
    def tun(self) -> bool:
        """TUN mode can work: device, routes and rules all need CAP_NET_ADMIN."""
        return self.has(CAP_NET_ADMIN)

    @property
    def missing_for_tun(self) -> str | None:
        """One line on what is missing for TUN mode, None if nothing is."""
        if self.tun:
            return None
        if self.uid == 0:
            return "root here lacks CAP_NET_ADMIN; in a container, give --cap-add NET_ADMIN"
        return "not allowed to change the network; run it as root or with CAP_NET_ADMIN"


def parse_status(text: str) -> int:
    """The effective capabilities from the text of ``/proc/self/status``; 0 where it has none."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            try:
                return int(value, 16)
            except ValueError:
                return 0
    return 0


def own_privileges(status: Path = Path("/proc/thread-self/status")) -> Privileges:
    """Those of this process."""
    try:
        text = status.read_text()
    except OSError:  # no /proc: what root usually has
        return Privileges(os.geteuid(), ~0 if os.geteuid() == 0 else 0)
    return Privileges(os.geteuid(), parse_status(text))
