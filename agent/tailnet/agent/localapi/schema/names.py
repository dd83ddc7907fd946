"""What names are, and how the host resolves them.

Source: tailscale client/tailscale/apitype, DNSOSConfig, DNSQueryResponse.
"""

from msgspec import Struct, field


class DNSOSConfig(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET dns-osconfig``: how the host resolved names before us; ``mode`` is who decides there.

    ``known`` is false where only that program knows.
    """

    nameservers: tuple[str, ...] = ()
    search_domains: tuple[str, ...] = ()
    match_domains: tuple[str, ...] = ()
    mode: str = ""
    known: bool = True


class DNSResolver(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Somebody to ask: an address, or a URL."""

    addr: str = ""


class DNSQueryAnswer(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``GET dns-query``.

    Attributes:
        data: the whole message; empty: nobody gave one.
        resolvers: who was to be asked; none if the daemon knows it itself.
        why: the rule that decided.
        server: who answered; empty if the daemon did.
    """

    data: bytes = field(default=b"", name="Bytes")
    resolvers: tuple[DNSResolver, ...] = ()
    why: str = ""
    server: str = ""


class DNSLocalRecord(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A name of this host alone; ``*.`` in front is for all below."""

    name: str = ""
    addresses: tuple[str, ...] = ()
