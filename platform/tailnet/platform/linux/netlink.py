"""Typed access to rtnetlink: pyroute2's untyped messages stop here.

Every object is opened for one operation and closed after it, in the network namespace of the
calling thread.
"""

import errno
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from fcntl import ioctl
from ipaddress import ip_interface, ip_network
from pathlib import Path
from socket import AF_INET, AF_NETLINK, SOCK_DGRAM, SOCK_RAW, if_indextoname, socket
from struct import Struct
from typing import Any, NamedTuple, Protocol

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.hostinfo import local_networks
from tailnet.platform.linux.routesock import NETLINK_GET_STRICT_CHK, SOL_NETLINK, RouteSocket
from tailnet.platform.linux.rtnetlink import AsyncIPRoute, NetlinkError
from tailnet.platform.linux.rules import (
    TABLE_MAIN,
    Interface,
    Prefix,
    Request,
    Route,
    Rule,
    Selector,
    Verb,
    family_of,
)

log = logging.getLogger("tailnet.platform")

_FR_ACT_TO_TABLE = 1
_FR_ACT_UNREACHABLE = 7
_IFF_UP = 1
_SIOCGIFFLAGS, _SIOCGIFMTU, _SIOCGIFINDEX = 0x8913, 0x8921, 0x8933
_IFREQ, _IFREQ_INT = Struct("=16sHHI16x"), Struct("=16si20x")  # struct ifreq: name, and a union
_NO_LIMIT = 0xFFFFFFFF
# Attributes of a rule that select nothing and do nothing, with the value at which this is so.
_FIB_RULE_INVERT = 2
_IDLE_ATTRIBUTES = {"FRA_SUPPRESS_PREFIXLEN": _NO_LIMIT, "FRA_SUPPRESS_IFGROUP": _NO_LIMIT}
_SELECTING = {"FRA_DST", "FRA_SRC", "FRA_IIFNAME", "FRA_OIFNAME"}
_OWN_ATTRIBUTES = {"FRA_TABLE", "FRA_PROTOCOL", "FRA_PRIORITY", "FRA_FWMARK", "FRA_FWMASK"}
# Already so: added twice; deleted what is gone (rule, route, address, device).
_DONE_ALREADY = {
    Verb.ADD: {errno.EEXIST},
    Verb.DELETE: {errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV},
}


@dataclass(frozen=True, slots=True)
class Link:
    """A network device."""

    index: int
    mtu: int
    up: bool


class Refusal(NamedTuple):
    """What the kernel would not do, and why."""

    request: Request
    error: PlatformError


class Kernel(Protocol):
    """What the router needs of the kernel.  All of these raise ``PlatformError``."""

    async def link(self, name: str) -> Link | None:
        """The device, None where there is none of this name."""

    async def set_link(self, index: int, *, up: bool = True, mtu: int | None = None) -> None:
        """Bring the device up, with this MTU, or down, which takes its routes away."""

    async def rules(self, family: int) -> frozenset[Rule] | None:
        """All policy rules, None where this kernel has no policy routing in this family."""

    async def routes(self, family: int, table: int) -> frozenset[Route]:
        """The routes of one table that lead to a device or end the lookup."""

    async def addrs(self, index: int) -> frozenset[Interface]:
        """The addresses of a device."""

    async def lan(self, tun: int) -> frozenset[Prefix]:
        """The prefixes of the links of the host, without the tunnel's and loopback."""

    async def carry_out(self, request: Request, index: int | None) -> None:
        """Change one rule or address; no error where it is so already.

        ``index``: for addresses.
        """

    async def change_routes(self, requests: Sequence[Request]) -> list[Refusal]:
        """Change these routes, in order; what fails does not stop the others."""

    def ipv6_usable(self, device: str | None) -> bool:
        """Whether the host, and the device if named, take IPv6 addresses and routes."""


class Netlink:
    """``Kernel`` over ``AsyncIPRoute``, and a socket for routes, of which there may be many.

    One dump at a time, as the kernel wants it.
    """

    def __init__(self, stack: AsyncExitStack, routes: RouteSocket, *, strict: bool) -> None:
        self._stack = stack
        self._strict = strict
        self._opened: AsyncIPRoute | None = None
        self._routes = routes

    async def _iproute(self) -> AsyncIPRoute:
        """Opened when first used: it costs more than a change of a route does."""
        if self._opened is None:
            ip = AsyncIPRoute(strict_check=self._strict)
            self._opened = await self._stack.enter_async_context(ip)
        return self._opened

    async def link(self, name: str) -> Link | None:
        """See ``Kernel``."""
        with _explained(f"look for interface {name}"):
            return find_link(name)

    async def set_link(self, index: int, *, up: bool = True, mtu: int | None = None) -> None:
        """See ``Kernel``."""
        state = "up" if up else "down"
        wish = {} if mtu is None else {"mtu": mtu}
        with _explained(f"bring the tunnel interface {state}"):
            await (await self._iproute()).link("set", index=index, state=state, **wish)

    async def rules(self, family: int) -> frozenset[Rule] | None:
        """See ``Kernel``."""
        try:
            with _explained("list policy rules"):
                dump = await (await self._iproute()).get_rules(family=family)
                return frozenset([_rule(m) async for m in dump])
        except PlatformError as error:
            if _code(error) in {errno.EOPNOTSUPP, errno.EAFNOSUPPORT}:
                return None
            raise

    async def routes(self, family: int, table: int) -> frozenset[Route]:
        """See ``Kernel``."""
        try:
            with _explained(f"list the routes of table {table}"):
                return await self._routes.routes(family, table)
        except PlatformError as error:
            if _code(error) in {errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT}:
                return frozenset()  # no such table yet, or no such family
            raise

    async def addrs(self, index: int) -> frozenset[Interface]:
        """See ``Kernel``."""
        with _explained("list the tunnel's addresses"):
            dump = await (await self._iproute()).get_addr(index=index)
            return frozenset([_addr(m) async for m in dump])

    async def lan(self, tun: int) -> frozenset[Prefix]:
        """See ``Kernel``."""
        with _explained("list the addresses of the host"):
            # by libc: a tenth of what a dump by netlink costs
            nets = local_networks(without=if_indextoname(tun))
        return frozenset(n for n in nets if n.prefixlen < n.max_prefixlen and not n.is_loopback)

    async def carry_out(self, request: Request, index: int | None) -> None:
        """See ``Kernel``."""
        try:
            with _explained(str(request)):
                await self._carry_out(request, index)
        except PlatformError as error:
            if _code(error) not in _DONE_ALREADY[request.verb]:
                raise
            log.debug("%s: already so", request)

    async def change_routes(self, requests: Sequence[Request]) -> list[Refusal]:
        """See ``Kernel``."""
        with _explained("change routes"):
            failed = await self._routes.change(requests)
        return [
            Refusal(request, PlatformError(f"cannot {request}: {_reason(code)}"))
            for request, code in failed
            if code not in _DONE_ALREADY[request.verb] or _is_occupied(request, code)
        ]

    async def _carry_out(self, request: Request, index: int | None) -> None:
        verb = "add" if request.verb is Verb.ADD else "del"
        match request.item:
            case Rule() as rule:
                await (await self._iproute()).rule(verb, **_rule_request(rule))
            case Route():
                msg = "routes are changed by change_routes"
                raise TypeError(msg)
            case addr:
                await (await self._iproute()).addr(
                    verb,
                    index=index,
                    family=family_of(addr),
                    address=str(addr.ip),
                    prefixlen=addr.network.prefixlen,
                )

    def ipv6_usable(self, device: str | None) -> bool:
        """See ``Kernel``."""
        return ipv6_usable(device)


@asynccontextmanager
async def open_netlink(port: int = 0) -> AsyncIterator[Kernel]:
    """A connection to the kernel, for the length of one operation.

    ``port``: that notifications of our changes of routes name; 0 lets the kernel choose.
    """
    async with AsyncExitStack() as stack:
        with _explained("talk to the kernel about routes"):
            strict = _filters_dumps()
            routes = stack.enter_context(RouteSocket(strict=strict, port=port))
        yield Netlink(stack, routes, strict=strict)


def find_link(name: str) -> Link | None:
    """A device by its name; a dump of all devices would cost ten times as much.

    Source: netdevice(7).

    Raises:
        OSError: not because there is none of this name.
    """
    with socket(AF_INET, SOCK_DGRAM) as sock:
        try:
            index, flags, mtu = (
                ioctl(sock, code, _IFREQ.pack(name.encode(), 0, 0, 0))
                for code in (_SIOCGIFINDEX, _SIOCGIFFLAGS, _SIOCGIFMTU)
            )
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
    up = bool(_IFREQ.unpack(flags)[1] & _IFF_UP)
    return Link(_IFREQ_INT.unpack(index)[1], _IFREQ_INT.unpack(mtu)[1], up)


def _filters_dumps() -> bool:
    """Whether the kernel sends only the table asked for (Linux 4.20).

    Else it sends all of them, and the main table of a router can have a million routes.
    """
    with socket(AF_NETLINK, SOCK_RAW, 0) as probe:
        try:
            probe.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        except OSError:
            return False
    return True


def ipv6_usable(device: str | None, root: Path = Path("/proc/sys/net/ipv6/conf")) -> bool:
    """Whether IPv6 addresses and routes can be set.

    The device's folder is missing where its MTU is below 1280 or IPv6 is.

    Source: tailscale util/linuxfw/linuxfw.go CheckIPv6, router_linux.go getV6Available.
    """
    if not root.exists() or _flag(root / "all/disable_ipv6") or _flag(root / "all/disable_policy"):
        return False
    if device is None:
        return True
    return (root / device).exists() and not _flag(root / device / "disable_ipv6")


def _flag(path: Path) -> bool:
    try:
        return path.read_text().strip() == "1"
    except OSError:
        return False  # a file that cannot be read forbids nothing


def _rule(message: Mapping[str, Any]) -> Rule:
    attrs = dict(message["attrs"])
    action = message["action"]
    foreign = {k: v for k, v in attrs.items() if k not in _OWN_ATTRIBUTES}
    idle = all(_IDLE_ATTRIBUTES.get(k) == v for k, v in foreign.items())
    narrow = any(message[k] for k in ("src_len", "dst_len", "tos"))
    inverted, mask = bool(message["flags"] & _FIB_RULE_INVERT), attrs.get("FRA_FWMASK", 0)
    leads = action == _FR_ACT_TO_TABLE
    return Rule(
        family=message["family"],
        priority=attrs.get("FRA_PRIORITY", 0),
        table=None if action == _FR_ACT_UNREACHABLE else attrs.get("FRA_TABLE", message["table"]),
        mark=attrs.get("FRA_FWMARK", 0),
        mask=mask,
        protocol=attrs.get("FRA_PROTOCOL", 0),
        plain=idle
        and not narrow
        and not message["flags"]
        and action in {_FR_ACT_TO_TABLE, _FR_ACT_UNREACHABLE},
        sweeping=idle and not narrow and inverted == bool(mask) and leads,
        selects=_selector(message, attrs) if leads and not inverted else None,
    )


def _selector(message: Mapping[str, Any], attrs: Mapping[str, Any]) -> Selector | None:
    """Which packets a rule is for; ``None``: all of them, or it cannot be said."""
    more = {k: v for k, v in attrs.items() if k not in _OWN_ATTRIBUTES | _SELECTING}
    if message["tos"] or any(_IDLE_ATTRIBUTES.get(k) != v for k, v in more.items()):
        return None
    found = Selector(
        dst=_prefix(attrs.get("FRA_DST"), message["dst_len"]),
        src=_prefix(attrs.get("FRA_SRC"), message["src_len"]),
        mark=attrs.get("FRA_FWMARK", 0),
        mask=attrs.get("FRA_FWMASK", 0),
        iif=attrs.get("FRA_IIFNAME", ""),
        oif=attrs.get("FRA_OIFNAME", ""),
    )
    return found if found != Selector() else None


def _prefix(address: str | None, length: int) -> Prefix | None:
    return None if address is None else ip_network(f"{address}/{length}", strict=False)


def _rule_request(rule: Rule) -> dict[str, Any]:
    request: dict[str, Any] = {"family": rule.family, "priority": rule.priority}
    request |= {"action": "unreachable"} if rule.table is None else {"table": rule.table}
    if rule.mask:
        request |= {"fwmark": rule.mark, "fwmask": rule.mask}
    return request | {"protocol": rule.protocol}


def _is_occupied(request: Request, code: int) -> bool:
    """In the main table others have routes too, and never lose their places to us."""
    shared = isinstance(request.item, Route) and request.item.table == TABLE_MAIN
    return shared and code == errno.EEXIST


def _addr(message: Mapping[str, Any]) -> Interface:
    attrs = dict(message["attrs"])
    # on a point-to-point device IFA_ADDRESS is the far end
    own = attrs.get("IFA_LOCAL", attrs["IFA_ADDRESS"])
    return ip_interface(f"{own}/{message['prefixlen']}")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn pyroute2's error into one line."""
    try:
        yield
    except NetlinkError as error:
        line = f"cannot {what}: {_reason(error.code)}"
        raise PlatformError(line) from error
    except OSError as error:
        line = f"cannot {what}: {error.strerror or error}"
        raise PlatformError(line) from error


def _code(error: PlatformError) -> int | None:
    cause = error.__cause__
    if isinstance(cause, NetlinkError):
        return int(cause.code)
    return cause.errno if isinstance(cause, OSError) else None


def _reason(code: int) -> str:
    match code:
        case errno.EPERM | errno.EACCES:
            return "permission denied; run as root or with CAP_NET_ADMIN"
        case errno.EEXIST:
            return "the host has such a route of its own"
        case errno.ENETDOWN:
            return "the interface is down"
        case errno.ENODEV:
            return "the interface is gone"
        case _:
            return errno.errorcode.get(code, str(code))
