"""Socket addresses and the address ranges of a tailnet."""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET, AF_INET6, inet_pton  # text to bytes; no socket is made here
from typing import Any, NamedTuple, overload

from tailnet.agent.errors import BadPacket

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

CGNAT = IPv4Network("100.64.0.0/10")
CHROMEOS = IPv4Network("100.115.92.0/23")  # hole in CGNAT, used by ChromeOS virtual machines
ULA = IPv6Network("fd7a:115c:a1e0::/48")
VIA = IPv6Network("fd7a:115c:a1e0:b1a::/64")  # then a site of 32 bits, then an IPv4 address
SERVICE_V4 = IPv4Address("100.100.100.100")
SERVICE_V6 = IPv6Address("fd7a:115c:a1e0::53")
SERVICES = frozenset({SERVICE_V4.packed, SERVICE_V6.packed})  # as in packets
DERP_MAGIC = IPv4Address("127.3.3.40")  # pseudo address: "via the relay of region <port>"


class AddrPort(NamedTuple):
    """A UDP or TCP address.  IPv4-mapped IPv6 is never stored: it is unmapped on the way in."""

    ip: IPAddress
    port: int

    @classmethod
    def parse(cls, text: str) -> "AddrPort":
        """Parse ``1.2.3.4:5`` or ``[::1]:5``.

        Raises:
            BadPacket: anything else, zones included.
        """
        host, colon, port = text.rpartition(":")
        if len(port) <= 4 or (len(port) == 5 and port <= "65535"):
            # nearly all: a large network map has 40,000 of them
            try:
                packed = inet_pton(AF_INET, host)
                if port.isascii() and port.isdigit():
                    return cls(IPv4Address(int.from_bytes(packed)), int(port))
            except (OSError, ValueError):
                pass  # perhaps IPv6; what is wrong is said below
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            colon = ""
        if not colon or len(port) > 5 or not (port.isascii() and port.isdigit()) or "%" in host:
            msg = "not an ip:port"
            raise BadPacket(msg)
        return cls.of(host, int(port))

    @classmethod
    def of(cls, host: str, port: int) -> "AddrPort":
        """From a literal address as the socket module gives it.

        Raises:
            BadPacket: not a literal address, or the port is out of range.
        """
        try:
            ip = parse_ip(host.partition("%")[0])
        except ValueError:
            ip = None
        if ip is None or not 0 <= port <= 0xFFFF:
            msg = "not an ip:port"
            raise BadPacket(msg)
        return cls(unmap(ip), port)

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.ip.version == 6 else f"{self.ip}:{self.port}"


class AddrPorts(Sequence[AddrPort]):
    """Addresses that stay text until somebody looks; malformed and zoned ones are left out.

    A large network map has 40,000 of them, and a peer at rest needs none of its own.
    """

    __slots__ = ("_parsed", "_texts")

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._texts = texts
        self._parsed: tuple[AddrPort, ...] | None = None if texts else ()

    def _all(self) -> tuple[AddrPort, ...]:
        if self._parsed is None:
            parsed = []
            for text in self._texts:
                try:
                    parsed.append(AddrPort.parse(text))
                except BadPacket:
                    continue
            self._parsed = tuple(parsed)
        return self._parsed

    @overload
    def __getitem__(self, index: int) -> AddrPort: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[AddrPort, ...]: ...
    def __getitem__(self, index: int | slice) -> AddrPort | tuple[AddrPort, ...]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AddrPorts):
            return self._texts == other._texts or self._all() == other._all()
        return self._all() == other

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


class ViaAddr(NamedTuple):
    """A session at a peer relay: what is sent to ``relay`` with this number goes to the other end.

    ``vni``: 1 to 2²⁴ − 1, in a Geneve header before each datagram.
    """

    relay: AddrPort
    vni: int

    def __str__(self) -> str:
        return f"{self.relay}:vni:{self.vni}"


def parse_ip(text: str) -> IPAddress:
    """As ``ipaddress.ip_address``, several times as fast: a large network map has 100,000 of them.

    Raises:
        ValueError: not an address.
    """
    try:
        if ":" in text:
            return IPv6Address(int.from_bytes(inet_pton(AF_INET6, text)))
        return IPv4Address(int.from_bytes(inet_pton(AF_INET, text)))
    except OSError:  # these have the words for what is wrong, and take a zone
        return IPv6Address(text) if ":" in text else IPv4Address(text)


def unmap(ip: IPAddress) -> IPAddress:
    """IPv4-mapped IPv6 (``::ffff:a.b.c.d``) as IPv4; everything else as it is."""
    return (ip.version == 6 and ip.ipv4_mapped) or ip


def is_tailnet(ip: IPAddress) -> bool:
    """True for an address that only a tailnet hands out."""
    return (ip in CGNAT and ip not in CHROMEOS) if ip.version == 4 else ip in ULA


_ALL_V4 = IPv4Network("0.0.0.0/32").netmask
_ALL_V6 = IPv6Network("::/128").netmask
# Without the constructors: ``Any``, since what these set is private.
_new: Callable[[type], Any] = object.__new__


def _single_v4(number: int) -> IPNetwork:
    """A network of one address, in half of the constructors' time and memory.

    There are two of these for each of ten thousand peers.  Only ``hosts()`` is not as the
    constructor makes it: it is empty.
    """
    net, ip = _new(IPv4Network), _new(IPv4Address)
    ip._ip = number  # noqa: SLF001
    net.network_address, net.netmask, net._prefixlen = ip, _ALL_V4, 32  # noqa: SLF001
    made: IPv4Network = net
    return made


def _single_v6(number: int) -> IPNetwork:
    net, ip = _new(IPv6Network), _new(IPv6Address)
    ip._ip, ip._scope_id = number, None  # noqa: SLF001
    net.network_address, net.netmask, net._prefixlen = ip, _ALL_V6, 128  # noqa: SLF001
    made: IPv6Network = net
    return made


def parse_prefix(text: str) -> IPNetwork:
    """Parse ``a.b.c.d/n``; host bits must be zero.

    Raises:
        BadPacket: anything else.
    """
    try:
        if text.endswith("/32") and ":" not in text:
            return _single_v4(int.from_bytes(inet_pton(AF_INET, text[:-3])))
        if text.endswith("/128"):
            return _single_v6(int.from_bytes(inet_pton(AF_INET6, text[:-4])))
        return IPv6Network(text) if ":" in text else IPv4Network(text)
    except (ValueError, OSError):
        msg = "not a prefix, or host bits are set"
        raise BadPacket(msg) from None


def via(site: int, net: IPv4Network) -> IPv6Network:
    """By which IPv6 prefix an IPv4 network behind a site is reached (4via6).

    Source: tailscale net/tsaddr/tsaddr.go MapVia.
    """
    base = int(VIA.network_address) | site << 32 | int(net.network_address)
    return IPv6Network((base, 96 + net.prefixlen))


def unmap_via(net: IPv6Network) -> tuple[int, IPv4Network] | None:
    """Site and IPv4 network of such a prefix; ``None``: it is none."""
    if not is_site(net):
        return None
    low = int(net.network_address) & (1 << 64) - 1
    return low >> 32, IPv4Network((low & 0xFFFF_FFFF, net.prefixlen - 96))


def is_site(net: IPNetwork) -> bool:
    """An IPv4 network behind a site, as such a prefix."""
    return isinstance(net, IPv6Network) and net.prefixlen >= 96 and net.network_address in VIA


def behind_site(ip: IPAddress) -> IPv4Address:
    """The IPv4 address in the last 32 bits of one in ``VIA``."""
    return IPv4Address(int(ip) & 0xFFFF_FFFF)
