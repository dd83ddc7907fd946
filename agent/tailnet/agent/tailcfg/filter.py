"""Packet-filter rules as control sends them.

Source: tailscale tailcfg/tailcfg.go, FilterRule.
"""

from typing import Any

from msgspec import field

from tailnet.agent.tailcfg.codec import Struct


class PortRange(Struct, frozen=True, omit_defaults=False):
    """Inclusive range of ports; both ends are always said, as upstream's ``PortRange`` does."""

    first: int = 0
    last: int = 0


class NetPortRange(Struct, frozen=True):
    """A destination: ``ip`` is ``*``, an address, a CIDR or ``a-b``; ``bits`` is refused."""

    ip: str = field(default="", name="IP")
    bits: int | None = None
    ports: PortRange = PortRange()


class CapGrant(Struct, frozen=True):
    """Capabilities granted to a rule's sources on ``dsts``; no effect on packets."""

    dsts: tuple[str, ...] | None = None
    caps: tuple[str, ...] | None = None
    cap_map: dict[str, tuple[Any, ...] | None] | None = None


class FilterRule(Struct, frozen=True):
    """Sources may reach destinations with these protocols (none: TCP, UDP, ICMP, ICMPv6)."""

    src_ips: tuple[str, ...] | None = field(default=None, name="SrcIPs")
    src_bits: tuple[int, ...] | None = None
    dst_ports: tuple[NetPortRange, ...] | None = None
    ip_proto: tuple[int, ...] | None = field(default=None, name="IPProto")
    cap_grant: tuple[CapGrant, ...] | None = None
