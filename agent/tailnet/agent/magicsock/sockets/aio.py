"""UDP sockets and interface addresses, for magicsock's shell."""

import ipaddress
import logging
import socket
from collections.abc import Callable

import psutil

from tailnet.agent.addr import IPAddress
from tailnet.agent.datapath.interface import UdpPort
from tailnet.agent.magicsock.endpoints import (
    TELL_ALL,
    InterfaceAddr,
    Ports,
    ip_versions,
    local_addresses,
)
from tailnet.agent.magicsock.sockets.offload import PLAIN, Offload

log = logging.getLogger("tailnet.magicsock")

NEXT_PORTS = 9  # tried after the port that is wanted, before the kernel chooses
BUFFER = 7 << 20  # bytes, each direction

# linux/socket.h, linux/udp.h; the socket module does not name them
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
# linux/in.h, linux/in6.h: IP_MTU_DISCOVER and IPV6_MTU_DISCOVER, both DO
_DONT_FRAGMENT = {
    socket.AF_INET: (10, 2, socket.IPPROTO_IP),
    socket.AF_INET6: (23, 2, socket.IPPROTO_IPV6),
}
_FAMILIES = socket.AF_INET, socket.AF_INET6


class Sockets:
    """Births the UDP sockets, which the datapath then owns.

    Attributes:
        ports: bound ports.
        skip: interfaces whose addresses are not ours to tell.
        telling: what the user wants told.
        wanted: the port the user chose, 0 if none.
    """

    def __init__(
        self,
        mark: Callable[[socket.socket], None],
        offload: Offload = PLAIN,
        *,
        whole: bool = False,
    ) -> None:
        """``whole``: no datagram may be fragmented; too large ones are refused or lost."""
        self._mark = mark
        self._whole = whole
        self._offload = offload
        self.ports = Ports(0, 0)
        self.skip: set[str] = set()
        self._known: list[InterfaceAddr] = []
        self.telling = TELL_ALL
        self.wanted = 0
        self._another = False  # port than the present one, at the next opportunity
        self._told_of_buffers = False

    @property
    def problem(self) -> str:
        """Why the port is not the one that the user chose; empty if it is."""
        bound = self.ports.v4 or self.ports.v6
        if not self.wanted or not bound or bound == self.wanted:
            return ""
        return (
            f"UDP port {self.wanted} is taken by another program, so {bound} is used; "
            "when it is free again: tnet debug rebind"
        )

    @property
    def fixed(self) -> bool:
        """The port is the one that the user chose."""
        return self.wanted != 0 and self.wanted == self.ports.v4

    def bind(self, port: int) -> list[UdpPort]:
        """One socket per family, on the same port if possible; 0 lets the kernel choose.

        A family that the kernel does not have is left out.

        Raises:
            OSError: no family could be bound.
        """
        self.wanted = port
        return self._open(port, again=False)

    def want(self, port: int) -> bool:
        """Another port, 0 for any, from the next :meth:`rebind` on; whether that is news."""
        if port == self.wanted:
            return False
        self.wanted, self._another = port, True
        return self.ports != Ports(0, 0)

    def want_whole(self, *, whole: bool) -> bool:
        """Whether datagrams may not be fragmented, from the next :meth:`rebind` on; if it is news.

        Always false before there are sockets.
        """
        if whole == self._whole:
            return False
        self._whole = whole
        return self.ports != Ports(0, 0)

    def rebind(self) -> list[UdpPort]:
        """New sockets, on the port that is wanted or the present one; empty if refused."""
        present = 0 if self._another else self.ports.v4 or self.ports.v6
        try:
            opened = self._open(self.wanted or present, again=True)
        except OSError as error:
            log.warning("cannot bind UDP sockets: %s", error)
            return []
        self._another = False
        return opened

    def local_addresses(self) -> tuple[IPAddress, ...]:
        """Addresses of this machine worth telling."""
        return local_addresses(self._interfaces(), self.skip, self.telling)

    def ip_versions(self) -> frozenset[int]:
        """IP versions that this machine has addresses of."""
        return ip_versions(self._interfaces(), self.skip)

    def _interfaces(self) -> list[InterfaceAddr]:
        """As they are; as they were where the system does not say, as without a descriptor left."""
        try:
            self._known = interface_addresses()
        except OSError as error:
            log.warning("cannot list the addresses of this host: %s", error)
        return self._known

    def _look_at_buffers(self, sock: socket.socket) -> None:
        """The kernel doubles what it is asked for, and cuts it where it is not forced."""
        size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if size < BUFFER and not self._told_of_buffers:
            self._told_of_buffers = True
            log.info(
                "UDP buffers of %d KiB instead of %d; more with CAP_NET_ADMIN, or: "
                "sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d",
                size >> 10,
                BUFFER >> 10,
                BUFFER,
                BUFFER,
            )

    def _open(self, wanted: int, *, again: bool) -> list[UdpPort]:
        opened: list[UdpPort] = []
        ports = dict.fromkeys(_FAMILIES, 0)
        for family in _FAMILIES:
            try:
                sock = _bind(family, wanted, self._mark, again=again)
            except OSError as error:
                log.info("no UDP over %s: %s", family.name, error)
                if family == _FAMILIES[-1] and not opened:
                    raise
                continue
            ports[family] = sock.getsockname()[1]
            if self._whole:
                _option(sock, *_DONT_FRAGMENT[family])
            wanted = ports[family]
            self._look_at_buffers(sock)
            gso = self._offload.gso and _has_gso(sock)
            gro = self._offload.gro and _option(sock, _UDP_GRO, 1)
            sentinel = self._offload.sentinel
            opened.append(UdpPort(sock.detach(), family, gso=gso, gro=gro, sentinel=sentinel))
        self.ports = Ports(ports[socket.AF_INET], ports[socket.AF_INET6])
        return opened


def _bind(
    family: socket.AddressFamily, port: int, mark: Callable[[socket.socket], None], *, again: bool
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        mark(sock)
        for option, forced in (
            (socket.SO_RCVBUF, _SO_RCVBUFFORCE),
            (socket.SO_SNDBUF, _SO_SNDBUFFORCE),
        ):
            if not _option(sock, forced, BUFFER, socket.SOL_SOCKET):
                _option(sock, option, BUFFER, socket.SOL_SOCKET)
        if again:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind_near(sock, port)
        # After the bind: a foreign socket must not share our port, our own next one may.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_near(sock: socket.socket, port: int) -> None:
    """To ``port``, one of the next that is free, or any."""
    for each in range(port, min(port + NEXT_PORTS, 0xFFFF) + 1) if port else ():
        try:
            sock.bind(("", each))
        except OSError as error:
            log.info("UDP port %d: %s", each, error.strerror)
            continue
        if each != port:
            log.warning("UDP port %d is taken; using %d", port, each)
        return
    sock.bind(("", 0))
    if port:
        log.warning("UDP port %d is taken; using %d", port, sock.getsockname()[1])


def _option(sock: socket.socket, option: int, value: int, level: int = _SOL_UDP) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


def _has_gso(sock: socket.socket) -> bool:
    try:
        sock.getsockopt(_SOL_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def has_ipv6() -> bool:
    """Whether this system has IPv6 at all, be there addresses or not."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def interface_addresses() -> list[InterfaceAddr]:
    """Every address of every interface of this machine."""
    up = {name: stats.isup for name, stats in psutil.net_if_stats().items()}
    found = []
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if address.family not in {socket.AF_INET, socket.AF_INET6}:
                continue
            ip = ipaddress.ip_address(address.address.partition("%")[0])
            mask = ipaddress.ip_address(address.netmask) if address.netmask else None
            bits = ip.max_prefixlen if mask is None else int(mask).bit_count()
            found.append(InterfaceAddr(name, ip, bits, up.get(name, False)))
    return found
