"""Who a node is, for people.

Source: tailscale cmd/tailscale/cli/whois.go.
"""

from msgspec import json

from tailnet.agent.localapi.schema.identity import WhoIs
from tailnet.cli.terminal import fitted
from tailnet.cli.text import clean


def describe(who: WhoIs, tailnet: tuple[str, str] | None = None) -> list[str]:
    """The lines; ``tailnet``: its name and its MagicDNS suffix."""
    node, user = who.node, who.user_profile
    rows = [
        ("  Name:", clean(node.name.rstrip("."))),
        ("  ID:", clean(node.stable_id)),
        ("  Addresses:", _listed(node.addresses or ())),
    ]
    if len(node.allowed_ips or ()) > 2:
        rows.append(("  AllowedIPs:", _listed((node.allowed_ips or ())[2:])))
    blocks = [("Machine:", rows)]
    if node.tags:
        rows.append(("  Tags:", clean(", ".join(node.tags))))
    else:
        blocks.append(("User:", [("  Name:", clean(user.login_name)), ("  ID:", str(user.id))]))
    if tailnet is not None:
        name, suffix = map(clean, tailnet)
        blocks.append(("Tailnet:", [("  Name:", name), ("  MagicDNS Suffix:", suffix)]))
    lines = [line for title, rows in blocks for line in (title, *fitted(rows))]
    if who.cap_map:
        lines.append("Capabilities:")
        for name in sorted(who.cap_map):
            lines.append(f"  - {clean(name)}:")
            for value in who.cap_map[name] or ():
                shown = json.format(json.encode(value), indent=2).decode()
                lines += [f"      {clean(line)}" for line in shown.splitlines()]
    return lines


def _listed(items: tuple[str, ...]) -> str:
    return f"[{' '.join(map(clean, items))}]"
