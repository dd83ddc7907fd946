"""What was counted, under the names that upstream's dashboards know.

Source: tailscale net/dns/resolver/tsdns.go and forwarder.go, ``clientmetric.NewCounter``.
"""

from collections import Counter
from collections.abc import Mapping

from tailnet.agent.dns.local import Outcome

_NAMES = {
    Outcome.BONJOUR: "dns_reverse_miss_bonjour",
    Outcome.NO_OWNER: "dns_reverse_miss_other",
    Outcome.REVERSE: "dns_query_magic_success_reverse",
    Outcome.NO_UPSTREAM: "dns_query_fwd_error_no_upstream",
}
GUESTS = "exit_node_"  # before the names of what peers asked
_FOUND = (Outcome.NAME_A, Outcome.NAME_AAAA, Outcome.NAME_ANY)
_RESOLVED = frozenset(Outcome) - _NAMES.keys()


def metrics(outcomes: Mapping[Outcome, int], others: Mapping[str, int]) -> dict[str, int]:
    """Counters by upstream's names, those that are not zero.

    Args:
        outcomes: questions answered by ourselves.
        others: what is left of a query's fate, by the names without ``dns_query_``.
    """
    counted: Counter[str] = Counter()
    for outcome, n in outcomes.items():
        counted[_NAMES.get(outcome) or f"dns_resolve_local_{outcome}"] += n
        counted["dns_resolve_local"] += n if outcome in _RESOLVED else 0
        counted["dns_query_magic_success_name"] += n if outcome in _FOUND else 0
    for name, n in others.items():
        counted[f"dns_{name}" if name.startswith(GUESTS) else f"dns_query_{name}"] += n
    asked = sum(outcomes.values()) + others.get("fwd", 0)
    counted["dns_query_local"] = asked + sum(
        n for name, n in others.items() if name.startswith("respond_error_")
    )
    return {name: n for name, n in sorted(counted.items()) if n}
