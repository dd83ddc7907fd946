"""Public resolvers that speak DNS over HTTPS at addresses known in advance.

Asked plainly, everybody on the way reads the names; asked by HTTPS only they do.

Source: tailscale net/dns/publicdns/publicdns.go.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from tailnet.agent.addr import IPAddress

_NEXTDNS_BASE = "https://dns.nextdns.io/"
_NEXTDNS_NETS = (IPv6Network("2a07:a8c0::/33"), IPv6Network("2a07:a8c1::/33"))
_NEXTDNS_DIAL = (IPv4Address("45.90.28.0"), IPv4Address("45.90.30.0"))
_CONTROLD_BASE = "https://dns.controld.com/"
_CONTROLD_DIAL = ("76.76.2.22", "76.76.10.22", "2606:1a40::22", "2606:1a40:1::22")

_FIXED = {
    "https://cloudflare-dns.com/dns-query": (
        "1.1.1.1 1.0.0.1 2606:4700:4700::1111 2606:4700:4700::1001"
    ),
    "https://security.cloudflare-dns.com/dns-query": (
        "1.1.1.2 1.0.0.2 2606:4700:4700::1112 2606:4700:4700::1002"
    ),
    "https://family.cloudflare-dns.com/dns-query": (
        "1.1.1.3 1.0.0.3 2606:4700:4700::1113 2606:4700:4700::1003"
    ),
    "https://dns.google/dns-query": "8.8.8.8 8.8.4.4 2001:4860:4860::8888 2001:4860:4860::8844",
    "https://dns.quad9.net/dns-query": "9.9.9.9 149.112.112.112 2620:fe::fe 2620:fe::9",
    "https://dns11.quad9.net/dns-query": "9.9.9.11 149.112.112.11 2620:fe::11 2620:fe::fe:11",
    "https://dns10.quad9.net/dns-query": "9.9.9.10 149.112.112.10 2620:fe::10 2620:fe::fe:10",
    "https://wikimedia-dns.org/dns-query": "185.71.138.138 2001:67c:930::1",
}
_MULLVAD = {"": 2, "adblock.": 3, "base.": 4, "extended.": 5, "family.": 6, "all.": 9}
_CONTROLD_FREE = {"p0": 0, "p1": 1, "p2": 2, "p3": 3, "family": 4}
_CIRA = {"private": 10, "protected": 20, "family": 30}


def _bases() -> Iterator[tuple[str, str]]:
    yield from _FIXED.items()
    for prefix, n in _MULLVAD.items():
        yield f"https://{prefix}dns.mullvad.net/dns-query", f"194.242.2.{n} 2a07:e340::{n}"
    for path, n in _CONTROLD_FREE.items():
        addresses = f"76.76.2.{n} 76.76.10.{n} 2606:1a40::{n} 2606:1a40:1::{n}"
        yield f"https://freedns.controld.com/{path}", addresses
    for name, n in _CIRA.items():
        four = f"149.112.121.{n} 149.112.122.{n}"
        six = f"2620:10a:80bb::{n} 2620:10a:80bc::{n}"
        yield f"https://{name}.canadianshield.cira.ca/dns-query", f"{four} {six}"


def _ip(text: str) -> IPAddress:
    return IPv6Address(text) if ":" in text else IPv4Address(text)


_DIAL = {base: tuple(map(_ip, addresses.split())) for base, addresses in _bases()}
_BASE = {ip: base for base, ips in _DIAL.items() for ip in ips}


def doh_base(ip: IPAddress) -> str | None:
    """The URL of the resolver at ``ip``; ``None``: none is known, ask it plainly."""
    if isinstance(ip, IPv6Address) and any(ip in net for net in _NEXTDNS_NETS):
        profile = ip.packed[4:].lstrip(b"\0")
        return _NEXTDNS_BASE + profile.hex()
    return _BASE.get(ip)


def doh_only(base: str) -> bool:
    """True if plain DNS to the same address would answer another customer's way, or not at all."""
    return base.startswith((_NEXTDNS_BASE, _CONTROLD_BASE, "https://wikimedia-dns.org/"))


def dial_addresses(base: str) -> tuple[IPAddress, ...]:
    """Where the server of ``base`` is, without asking any resolver; empty for an unknown one."""
    if base.startswith(_NEXTDNS_BASE):
        profile = base.removeprefix(_NEXTDNS_BASE)
        try:
            low = int(profile, 16) if len(profile) <= 24 else -1
        except ValueError:
            low = -1
        if low < 0:
            return _NEXTDNS_DIAL
        six = (IPv6Address(int(net.network_address) | low) for net in _NEXTDNS_NETS)
        return (*_NEXTDNS_DIAL, *six)
    if base.startswith(_CONTROLD_BASE):
        return tuple(map(_ip, _CONTROLD_DIAL))
    return _DIAL.get(base, ())


def sibling(ip: IPAddress) -> IPAddress | None:
    """The other address of the same resolver and family."""
    same = (o for o in _DIAL.get(_BASE.get(ip, ""), ()) if o.version == ip.version and o != ip)
    return next(same, None)
