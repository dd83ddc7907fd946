"""Names that say an address: reverse zones and 4via6.

Source: RFC 1035 section 3.5, RFC 3596 section 2.5; tailscale net/dns/resolver/tsdns.go
(rdnsNameToIPv4, rdnsNameToIPv6, resolveViaDomain, hasRDNSBonjourPrefix).
"""

from ipaddress import IPv4Address, IPv6Address

from tailnet.agent.addr import VIA, IPAddress
from tailnet.agent.dns.names import Name

VIA_BASE = int(VIA.network_address)
_VIA_DOMAINS = ("", "ts.net", "tailscale.net")
_BONJOUR = tuple(f"{p}._dns-sd._udp." for p in ("b", "db", "r", "dr", "lb"))


def is_bonjour(name: Name) -> bool:
    """True for the questions with which Apple's systems look for services of a network."""
    return name.startswith(_BONJOUR)


def reverse_address(name: Name) -> IPAddress | None:
    """What ``4.3.2.1.in-addr.arpa`` or its IPv6 form stands for; ``None``: it is no such name."""
    if name.endswith(".in-addr.arpa"):
        octets = name.removesuffix(".in-addr.arpa").split(".")
        if len(octets) == 4 and all(map(_octet, octets)):
            return IPv4Address(bytes(map(int, reversed(octets))))
    elif name.endswith(".ip6.arpa"):
        nibbles = name.removesuffix(".ip6.arpa").split(".")
        if len(nibbles) == 32 and all(len(n) == 1 and n in "0123456789abcdef" for n in nibbles):
            return IPv6Address(int("".join(reversed(nibbles)), 16))
    return None


def _octet(text: str) -> bool:
    plain = text.isascii() and text.isdigit() and len(text) <= 3
    return plain and int(text) <= 255 and str(int(text)) == text


def via_address(name: Name) -> IPv6Address | None:
    """``10-1-2-3-via-7[.anything.ts.net]`` is 10.1.2.3 at site 7; ``None``: no such name."""
    label, _, rest = name.partition(".")
    if not any(rest == d or (d and rest.endswith("." + d)) for d in _VIA_DOMAINS):
        return None
    *octets, via, site = label.split("-") if "-" in label else ("", "")
    if via != "via" or len(octets) != 4 or not all(map(_octet, octets)):
        return None
    try:
        number = int(site, 0) if site.isalnum() else -1
    except ValueError:
        return None
    if not 0 <= number <= 0xFFFFFFFF:
        return None
    return IPv6Address(VIA_BASE | number << 32 | int.from_bytes(bytes(map(int, octets))))
