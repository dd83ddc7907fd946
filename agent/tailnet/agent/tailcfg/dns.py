"""MagicDNS configuration as control sends it.

Source: tailscale tailcfg/tailcfg.go, DNSConfig.
"""

from tailnet.agent.tailcfg.codec import Struct


class Resolver(Struct, frozen=True):
    """An upstream resolver: address, ``https://`` or ``http://`` URL."""

    addr: str = ""
    bootstrap_resolution: tuple[str, ...] | None = None
    use_with_exit_node: bool = False


class DNSRecord(Struct, frozen=True):
    """An extra record; ``type`` empty is A or AAAA by ``value``."""

    name: str = ""
    type: str = ""
    value: str = ""


class DNSConfig(Struct, frozen=True):
    """Replaces the previous one entirely.  ``proxied`` is "MagicDNS on"."""

    resolvers: tuple[Resolver, ...] | None = None
    routes: dict[str, tuple[Resolver, ...] | None] | None = None
    fallback_resolvers: tuple[Resolver, ...] | None = None
    domains: tuple[str, ...] | None = None
    proxied: bool = False
    cert_domains: tuple[str, ...] | None = None
    extra_records: tuple[DNSRecord, ...] | None = None
    exit_node_filtered_set: tuple[str, ...] | None = None
