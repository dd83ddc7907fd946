"""Typed access to rtnetlink: pyroute2's untyped messages stop here.

Every object is opened for one operation and closed after it, in the network namespace of the
calling thread.
"""

import errno
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from pathlib import Path
from socket import AF_INET, AF_NETLINK, SOCK_RAW, socket
from typing import Any, Protocol

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.rtnetlink import RTM_GETROUTE, AsyncIPRoute, NetlinkError, rtmsg
from tailnet.platform.linux.rules import (
    TABLE_MAIN,
    Interface,
    Request,
    Route,
    Rule,
    Verb,
    family_of,
)

log = logging.getLogger("tailnet.platform")

_FR_ACT_TO_TABLE = 1
_FR_ACT_UNREACHABLE = 7
_RTN_UNICAST = 1
_RTN_THROW = 9
_IFF_UP = 1
_SOL_NETLINK = 270
_NETLINK_GET_STRICT_CHK = 12
_NO_LIMIT = 0xFFFFFFFF
# Attributes of a rule that select nothing and do nothing, with the value at which this is so.
_IDLE_ATTRIBUTES = {"FRA_SUPPRESS_PREFIXLEN": _NO_LIMIT, "FRA_SUPPRESS_IFGROUP": _NO_LIMIT}
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

    async def carry_out(self, request: Request, index: int | None) -> None:
        """Change one thing; no error where it is so already.  ``index``: for addresses."""

    def ipv6_usable(self, device: str | None) -> bool:
        """Whether the host, and the device if named, take IPv6 addresses and routes."""


class Netlink:
    """``Kernel`` over ``AsyncIPRoute``; one dump at a time, as the kernel wants it."""

    def __init__(self, ip: AsyncIPRoute) -> None:
        self._ip = ip

    async def link(self, name: str) -> Link | None:
        """See ``Kernel``."""
        try:
            with _explained(f"look for interface {name}"):
                found = [m async for m in await self._ip.get_links(ifname=name)]
        except PlatformError as error:
            if _code(error) == errno.ENODEV:
                return None
            raise
        for message in found:
            if message.get_attr("IFLA_IFNAME") == name:
                up = bool(message["flags"] & _IFF_UP)
                return Link(int(message["index"]), int(message.get_attr("IFLA_MTU")), up)
        return None

    async def set_link(self, index: int, *, up: bool = True, mtu: int | None = None) -> None:
        """See ``Kernel``."""
        state = "up" if up else "down"
        wish = {} if mtu is None else {"mtu": mtu}
        with _explained(f"bring the tunnel interface {state}"):
            await self._ip.link("set", index=index, state=state, **wish)

    async def rules(self, family: int) -> frozenset[Rule] | None:
        """See ``Kernel``."""
        try:
            with _explained("list policy rules"):
                return frozenset([_rule(m) async for m in await self._ip.get_rules(family=family)])
        except PlatformError as error:
            if _code(error) in {errno.EOPNOTSUPP, errno.EAFNOSUPPORT}:
                return None
            raise

    async def routes(self, family: int, table: int) -> frozenset[Route]:
        """See ``Kernel``."""
        wish = rtmsg()
        wish["family"] = family
        wish["attrs"] = [["RTA_TABLE", table]]
        try:
            with _explained(f"list the routes of table {table}"):
                dump = await self._ip.nlm_request(wish, RTM_GETROUTE)
                found = [r async for m in dump if m["family"] == family for r in _routes(m, table)]
        except PlatformError as error:
            if _code(error) in {errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT}:
                return frozenset()  # no such table yet, or no such family
            raise
        return frozenset(found)

    async def addrs(self, index: int) -> frozenset[Interface]:
        """See ``Kernel``."""
        with _explained("list the tunnel's addresses"):
            return frozenset([_addr(m) async for m in await self._ip.get_addr(index=index)])

    async def carry_out(self, request: Request, index: int | None) -> None:
        """See ``Kernel``."""
        # in the main table others have routes too: never take a place that is occupied
        shared = isinstance(request.item, Route) and request.item.table == TABLE_MAIN
        try:
            with _explained(str(request)):
                await self._carry_out(request, index)
        except PlatformError as error:
            code = _code(error)
            if code not in _DONE_ALREADY[request.verb] or (shared and code == errno.EEXIST):
                raise
            log.debug("%s: already so", request)

    async def _carry_out(self, request: Request, index: int | None) -> None:
        verb = "add" if request.verb is Verb.ADD else "del"
        match request.item:
            case Rule() as rule:
                await self._ip.rule(verb, **_rule_request(rule))
            case Route() as route:
                if verb == "add" and route.table != TABLE_MAIN:
                    verb = "replace"
                await self._ip.route(verb, **_route_request(route))
            case addr:
                await self._ip.addr(
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
async def open_netlink() -> AsyncIterator[Kernel]:
    """A connection to the kernel, for the length of one operation."""
    async with AsyncExitStack() as stack:
        with _explained("talk to the kernel about routes"):
            ip = AsyncIPRoute(strict_check=_filters_dumps())
            await stack.enter_async_context(ip)
        yield Netlink(ip)


def _filters_dumps() -> bool:
    """Whether the kernel sends only the table asked for (Linux 4.20).

    Else it sends all of them, and the main table of a router can have a million routes.
    """
    with socket(AF_NETLINK, SOCK_RAW, 0) as probe:
        try:
            probe.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
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
    header = any(message[k] for k in ("src_len", "dst_len", "tos", "flags"))
    return Rule(
        family=message["family"],
        priority=attrs.get("FRA_PRIORITY", 0),
        table=None if action == _FR_ACT_UNREACHABLE else attrs.get("FRA_TABLE", message["table"]),
        mark=attrs.get("FRA_FWMARK", 0),
        mask=attrs.get("FRA_FWMASK", 0),
        protocol=attrs.get("FRA_PROTOCOL", 0),
        plain=idle and not header and action in {_FR_ACT_TO_TABLE, _FR_ACT_UNREACHABLE},
    )


def _rule_request(rule: Rule) -> dict[str, Any]:
    request: dict[str, Any] = {"family": rule.family, "priority": rule.priority}
    request |= {"action": "unreachable"} if rule.table is None else {"table": rule.table}
    if rule.mask:
        request |= {"fwmark": rule.mark, "fwmask": rule.mask}
    return request | {"protocol": rule.protocol}


def _routes(message: Mapping[str, Any], table: int) -> Iterator[Route]:
    """One route, or none: others have routes through gateways and of other types here."""
    attrs = dict(message["attrs"])
    throw = message["type"] == _RTN_THROW
    oif = None if throw else attrs.get("RTA_OIF")
    if attrs.get("RTA_TABLE", message["table"]) != table or not (throw or oif is not None):
        return
    if not throw and message["type"] != _RTN_UNICAST:
        return
    nothing = "0.0.0.0" if message["family"] == AF_INET else "::"  # noqa: S104 – a prefix
    dst = ip_network(f"{attrs.get('RTA_DST', nothing)}/{message['dst_len']}")
    yield Route(dst, table, oif, attrs.get("RTA_PRIORITY", 0), message["proto"])


def _route_request(route: Route) -> dict[str, Any]:
    where = {"type": "throw"} if route.oif is None else {"oif": route.oif}
    return {
        "family": family_of(route),
        "dst": str(route.dst),
        "table": route.table,
        "priority": route.metric,
        "proto": route.protocol,
        **where,
    }


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
