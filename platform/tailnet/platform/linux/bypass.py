"""Keeps the daemon's own sockets out of the tunnel.

A mark on the packets lets the policy rules send them by the host's own routes.  Where marks are
refused, sockets are bound to the device of the host's default route when they are made; after a
change of that route they must be made anew.

Source: tailscale net/netns/netns_linux.go.
"""

import logging
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from tailnet.platform.linux.constants import BYPASS_MARK

log = logging.getLogger("tailnet.platform")

_PROC_NET = Path("/proc/thread-self/net")
_RTF_UP = 0x1
_RTF_REJECT = 0x200
_NO_DEVICE = "lo"  # better cut off than in a loop


class LinuxBypass:
    """A ``Bypass``.

    Args:
        tun_name: never taken for the host's own default route.
        marks: try marks first; False for kernels whose policy rules cannot be used.
        default_device: of a socket family; for tests.
    """

    def __init__(
        self,
        tun_name: str = "",
        *,
        marks: bool = True,
        default_device: Callable[[int], str | None] | None = None,
    ) -> None:
        self._device = default_device or (lambda family: read_default_device(family, tun_name))
        self._marks: bool | None = None if marks else False
        self._told = False

    @property
    def uses_mark(self) -> bool:
        """Marks are in use, not devices.  Asks the kernel at the first call."""
        if self._marks is None:
            self._marks = _marks_allowed()
            if not self._marks:
                log.info("socket marks are refused here; binding to the default route's device")
        return self._marks

    def mark(self, sock: socket.socket, remote: str | None = None) -> None:
        """Before bind or connect.  Does nothing where the system refuses and says so once.

        Args:
            sock: sockets that are not IP are left alone.
            remote: numeric address it will talk to, if known; loopback needs no bypass.
        """
        if sock.family not in {socket.AF_INET, socket.AF_INET6} or _is_loopback(remote):
            return
        try:
            if self.uses_mark:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, BYPASS_MARK)
            else:
                device = self._device(sock.family) or _NO_DEVICE
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        except OSError as error:
            if not self._told:
                self._told = True
                log.warning("own traffic may enter the tunnel: %s", error)


def read_default_device(family: int, tun_name: str = "", proc: Path = _PROC_NET) -> str | None:
    """The device of the default route with the smallest metric, None where there is none.

    An IPv6 socket falls back to the IPv4 route, since it may carry IPv4.

    Args:
        family: ``AF_INET`` or ``AF_INET6``.
        tun_name: the tunnel, which does not count.
        proc: folder with ``route`` and ``ipv6_route``.
    """
    routes: list[tuple[int, str]] = []
    if family == socket.AF_INET6:
        routes = parse_ipv6_routes(_read(proc / "ipv6_route"))
    for found in (routes, parse_ipv4_routes(_read(proc / "route"))):
        usable = [(metric, name) for metric, name in found if name not in {tun_name, "lo"}]
        if usable:
            return min(usable)[1]
    return None


def parse_ipv4_routes(text: str) -> list[tuple[int, str]]:
    """Metric and device of each default route in the text of ``/proc/net/route``."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 8 or words[1] != "00000000" or words[7] != "00000000":
            continue
        flags = int(words[3], 16)
        if flags & _RTF_UP and not flags & _RTF_REJECT:
            found.append((int(words[6]), words[0]))
    return found


def parse_ipv6_routes(text: str) -> list[tuple[int, str]]:
    """Metric and device of each default route in the text of ``/proc/net/ipv6_route``."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 10 or words[0].strip("0") or words[1] != "00":
            continue
        flags = int(words[8], 16)
        if flags & _RTF_UP and not flags & _RTF_REJECT:
            found.append((int(words[5], 16), words[9]))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # no such family, or no /proc


def _marks_allowed() -> bool:
    """Try it on a socket that sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, BYPASS_MARK)
        except OSError:
            return False
    return True


def _is_loopback(remote: str | None) -> bool:
    if remote is None:
        return False
    try:
        return ip_address(remote).is_loopback
    except ValueError:
        return False
