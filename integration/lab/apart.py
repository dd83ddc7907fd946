"""Hosts that cannot reach each other, and a policy with a peer relay for them."""

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any

from integration.lab.lab import Lab
from integration.lab.process import run

EVERYONE = {"IP": "*", "Ports": {"First": 0, "Last": 65535}}


def policy(relay: IPv4Address, others: Iterable[IPv4Address]) -> list[dict[str, Any]]:
    """Packet filter: everybody may talk to everybody, and ``relay`` relays for the others."""
    clients = [str(ip) for ip in others]
    rules: list[dict[str, Any]] = [
        {"SrcIPs": ["*"], "DstPorts": [EVERYONE]},
        {"SrcIPs": clients, "CapGrant": [grant(str(relay), "tailscale.com/cap/relay")]},
    ]
    target = "tailscale.com/cap/relay-target"
    return rules + [{"SrcIPs": [str(relay)], "CapGrant": [grant(ip, target)]} for ip in clients]


def grant(dst: str, name: str) -> dict[str, Any]:
    """A capability toward one address."""
    return {"Dsts": [f"{dst}/32"], "CapMap": {name: None}}


def apart(lab: Lab, a: str, b: str) -> None:
    """No UDP passes between the two."""
    lines = []
    specs = {spec.name: spec for spec in lab.network.topology.hosts}
    for one, two in ((a, b), (b, a)):
        spec, other = specs[one], specs[two]
        lines.append(f"ip saddr {spec.ipv4.ip} ip daddr {other.ipv4.ip} meta l4proto udp drop")
        assert spec.ipv6 is not None
        assert other.ipv6 is not None
        lines.append(f"ip6 saddr {spec.ipv6.ip} ip6 daddr {other.ipv6.ip} meta l4proto udp drop")
    rules = "table bridge apart {\n chain c {\n  type filter hook forward priority 10;\n  "
    rules += "\n  ".join(lines) + "\n }\n}\n"
    run(["nft", "-f", "-"], namespace=lab.network.internet, feed=rules)


def together(lab: Lab) -> None:
    """It passes again."""
    rules = "table bridge apart\ndelete table bridge apart\n"
    run(["nft", "-f", "-"], namespace=lab.network.internet, feed=rules)
