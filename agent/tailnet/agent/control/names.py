"""What is remembered of names, and the question to a relay that resolves them for us.

Source: tailscale net/dnscache/dnscache.go, net/dnsfallback/dnsfallback.go.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from tailnet.agent.addr import IPAddress
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.codec import ip_or_none
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode

TTL = 600.0  # seconds
MAX_NAMES = 32
MAX_CANDIDATES = 6  # relays asked for one name
MAX_ADDRESSES = 16  # of one name that are kept


@dataclass(frozen=True, slots=True)
class Known:
    """The addresses of a name, and until when they need no other look."""

    addresses: tuple[IPAddress, ...]
    until: float


class NameCache:
    """Addresses by name; those of private networks are not kept, since networks change."""

    def __init__(self) -> None:
        self._names: dict[str, Known] = {}

    def fresh(self, name: str, now: float) -> tuple[IPAddress, ...]:
        """Addresses that need no new look; empty if there are none."""
        known = self._names.get(name)
        return known.addresses if known is not None and now < known.until else ()

    def last_good(self, name: str) -> tuple[IPAddress, ...]:
        """Addresses that were right once; empty if there are none."""
        known = self._names.get(name)
        return known.addresses if known is not None else ()

    def put(self, name: str, addresses: tuple[IPAddress, ...], now: float) -> None:
        """Remember an answer."""
        if not addresses or any(ip.is_private for ip in addresses):
            return
        self._names.pop(name, None)
        if len(self._names) >= MAX_NAMES:
            del self._names[next(iter(self._names))]
        self._names[name] = Known(addresses, now + TTL)


def bootstraps(derp_map: DERPMap, random_bytes: Callable[[int], bytes]) -> list[DERPNode]:
    """Relays that may know, each with one address, in random order, IPv4 and IPv6 in turn."""
    four, six = [], []
    for region in (derp_map.regions or {}).values():
        for node in (region.nodes if region is not None else None) or ():
            if not node.stun_only and ip_or_none(node.ipv4) is not None:
                four.append(replace(node, ipv6="none"))
            if not node.stun_only and ip_or_none(node.ipv6) is not None:
                six.append(replace(node, ipv4="none"))
    four.sort(key=lambda _: random_bytes(8))
    six.sort(key=lambda _: random_bytes(8))
    both = itertools.chain.from_iterable(itertools.zip_longest(four, six))
    return [node for node in both if node is not None][:MAX_CANDIDATES]


def bootstrap_path(name: str) -> str:
    """The question."""
    return f"/bootstrap-dns?q={quote(name)}"


def parse_bootstrap_untrusted(data: bytes, name: str) -> tuple[IPAddress, ...]:
    """The addresses of ``name`` in a relay's answer.

    Raises:
        BadPacket: not such an answer, or without any.
    """
    try:
        answer = msgspec.json.decode(data, type=dict[str, list[str] | None])
    except (msgspec.MsgspecError, RecursionError, ValueError):
        msg = "bad answer to a bootstrap DNS question"
        raise BadPacket(msg) from None
    found = []
    for text in (answer.get(name) or ())[:MAX_ADDRESSES]:
        try:
            found.append(ip_address(text))
        except ValueError:
            continue
    if not found:
        msg = "no addresses in a bootstrap DNS answer"
        raise BadPacket(msg)
    return tuple(found)
