"""What ``tnet dns status`` says, for people and for programs.

Source: tailscale cmd/tailscale/cli/dns-status.go, jsonoutput/dns.go.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tailnet.agent.localapi.schema.names import DNSOSConfig
from tailnet.agent.localapi.schema.status import Status
from tailnet.cli.text import clean

Tree = Mapping[str, Any]


def status_tree(status: Status, accepted: bool, config: Tree, host: DNSOSConfig | str) -> Tree:
    """For programs.

    Args:
        status: of the daemon.
        accepted: ``--accept-dns``.
        config: control's ``DNSConfig``; empty without a network map.
        host: as it was before us, or why that is not known.
    """
    tailnet = status.current_tailnet
    system: Tree = {"SystemDNSError": host} if isinstance(host, str) else {}
    if isinstance(host, DNSOSConfig) and host.known:
        system = {
            "SystemDNS": {
                "Nameservers": host.nameservers,
                "SearchDomains": host.search_domains,
                "MatchDomains": host.match_domains,
            }
        }
    about = {
        "MagicDNSEnabled": tailnet is not None and tailnet.magic_dns_enabled,
        "MagicDNSSuffix": tailnet.magic_dns_suffix if tailnet is not None else "",
        "SelfDNSName": status.self_.dns_name if status.self_ is not None else "",
    }
    return {
        "TailscaleDNS": accepted,
        "CurrentTailnet": about if tailnet is not None else None,
        "Resolvers": config.get("Resolvers") or [],
        "SplitDNSRoutes": config.get("Routes") or {},
        "FallbackResolvers": config.get("FallbackResolvers") or [],
        "SearchDomains": config.get("Domains") or [],
        "Nameservers": [],
        "CertDomains": config.get("CertDomains") or [],
        "ExtraRecords": config.get("ExtraRecords") or [],
        "ExitNodeFilteredSet": config.get("ExitNodeFilteredSet") or [],
        **system,
    }


def status_lines(tree: Tree, host: DNSOSConfig | str, *, everything: bool) -> Iterator[str]:
    """For people; ``everything``: also what is empty, and what few need."""
    on = tree["TailscaleDNS"]
    yield "Tailnet DNS: " + ("on" if on else "off; turn it on with: tnet set --accept-dns")
    tailnet = tree["CurrentTailnet"]
    if tailnet is None:
        yield "MagicDNS: not known, this machine is not connected"
    elif tailnet["MagicDNSEnabled"]:
        suffix, own = clean(tailnet["MagicDNSSuffix"]), clean(tailnet["SelfDNSName"].rstrip("."))
        yield f"MagicDNS: on, for names below {suffix}; this machine is {own}"
    else:
        yield "MagicDNS: off for the whole tailnet"
    yield f"This host: {_host(host)}"
    sections: list[tuple[str, list[str]]] = [
        ("Resolvers", _resolvers(tree["Resolvers"])),
        ("Split DNS", [_route(*item) for item in sorted(tree["SplitDNSRoutes"].items())]),
        ("Search domains", [clean(name) for name in tree["SearchDomains"]]),
    ]
    if everything:
        records = [
            f"{clean(r.get('Name', ''))} {clean(r.get('Type', '') or 'A')} "
            f"{clean(r.get('Value', ''))}"
            for r in tree["ExtraRecords"]
        ]
        sections += [
            ("Fallback resolvers", _resolvers(tree["FallbackResolvers"])),
            ("Extra records", records),
            ("Certificate domains", [clean(name) for name in tree["CertDomains"]]),
            ("Not through an exit node", [clean(name) for name in tree["ExitNodeFilteredSet"]]),
        ]
    for title, lines in sections:
        if lines or everything:
            yield ""
            yield f"{title}:"
            yield from (f"  {line}" for line in lines or ["none"])


def _host(host: DNSOSConfig | str) -> str:
    if isinstance(host, str):
        return clean(host)
    if not host.mode:
        return "not known yet"
    if host.mode == "no-op":
        return "left alone"
    mode = f"configured by {clean(host.mode)}"
    if not host.known:
        return f"{mode}, which alone knows its other resolvers"
    servers = ", ".join(map(clean, host.nameservers)) or "no resolver"
    search = f", search {' '.join(map(clean, host.search_domains))}" if host.search_domains else ""
    return f"{mode}; without the tailnet: {servers}{search}"


def _resolvers(resolvers: list[Tree]) -> list[str]:
    return [clean(resolver.get("Addr", "")) for resolver in resolvers]


def _route(suffix: str, resolvers: list[Tree] | None) -> str:
    return f"{clean(suffix)} → {', '.join(_resolvers(resolvers or [])) or 'this daemon'}"
