"""Which programs of this host take TCP connections from other machines.

UDP is left out, as upstream does.

Source: tailscale portlist/portlist_linux.go and clean.go; ipn/policy/policy.go.
"""

import logging
import os
from ipaddress import IPv6Address, ip_address

import psutil

from tailnet.platform.system import Listener

log = logging.getLogger("tailnet.listeners")

MAX_LISTENERS = 300


def listeners() -> tuple[Listener, ...]:
    """One for each port, in order; without what listens on loopback only, and without ourselves.

    Takes some milliseconds: it looks at every process.  Whose a port is stays unknown without the
    privilege to look.
    """
    programs: dict[int, str] = {}
    try:
        for one in psutil.net_connections("tcp"):
            others = one.status == psutil.CONN_LISTEN and one.pid != os.getpid()
            if others and not _is_loopback(one.laddr.ip):
                programs[one.laddr.port] = programs.get(one.laddr.port) or _program(one.pid)
    except (psutil.Error, OSError) as error:
        log.debug("cannot see who listens: %s", error)
    found = sorted(programs.items())[:MAX_LISTENERS]
    return tuple(Listener(port, program) for port, program in found)


def _is_loopback(text: str) -> bool:
    ip = ip_address(text)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_loopback


def _program(pid: int | None) -> str:
    """Name of the file that runs, as it was called; empty if unknown."""
    if pid is None:
        return ""
    try:
        words = psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return ""
    return program_of(words)


def program_of(words: list[str]) -> str:
    """What people call a process with this command line."""
    names = [word.rpartition("/")[2] for word in words[:2]]
    if len(names) == 2 and names[0] == "mono":
        names = names[1:]
    return names[0].partition(" ")[0].strip().removesuffix(".exe") if names else ""
