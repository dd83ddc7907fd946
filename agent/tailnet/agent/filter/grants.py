"""What a source may ask of a destination beyond packets: the capabilities that rules grant.

Asked seldom (who is that, may it use our relay), so rules are read as they are.

Source: tailscale wgengine/filter/filter.go, CapsWithValues; tailcfg.go, CapGrant.
"""

from collections.abc import Sequence
from typing import Any

from tailnet.agent.addr import IPAddress, parse_prefix
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.rules import CapLookup, parse_ranges
from tailnet.agent.tailcfg.filter import CapGrant, FilterRule

Grants = dict[str, tuple[Any, ...]]
"""By capability: the values of all rules that grant it, in their order; often none."""


def granted(
    rules: Sequence[FilterRule] | None,
    src: IPAddress,
    dst: IPAddress,
    cap_lookup: CapLookup | None = None,
) -> Grants:
    """Capabilities of ``src`` toward ``dst``; what does not parse grants nothing.

    ``cap_lookup``: as for :func:`~tailnet.agent.filter.rules.compile_filter`.
    """
    out: Grants = {}
    for rule in rules or ():
        if not rule.cap_grant or not _is_source(rule, src, cap_lookup):
            continue
        for grant in rule.cap_grant:
            if _concerns(grant, dst):
                for name in grant.caps or ():
                    out.setdefault(name, ())
                for name, values in (grant.cap_map or {}).items():
                    out[name] = (*out.get(name, ()), *(values or ()))
    return out


def _is_source(rule: FilterRule, src: IPAddress, cap_lookup: CapLookup | None) -> bool:
    for text in rule.src_ips or ():
        if text.startswith("cap:"):
            if cap_lookup is not None and src in cap_lookup(text[4:]):
                return True
            continue
        try:
            ranges = parse_ranges(text)
        except BadPacket:
            continue
        if any(v == src.version and first <= int(src) <= last for v, first, last in ranges):
            return True
    return False


def _concerns(grant: CapGrant, dst: IPAddress) -> bool:
    for text in grant.dsts or ():
        try:
            if dst in parse_prefix(text):
                return True
        except BadPacket:
            continue
    return False
