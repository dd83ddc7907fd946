"""Counters by the names that dashboards know."""

from tailnet.agent.dns.local import Outcome
from tailnet.agent.dns.metrics import metrics


def test_every_outcome_has_a_name_of_upstream() -> None:
    """And sums are made of them."""
    counted = metrics(dict.fromkeys(Outcome, 1), {"fwd": 2, "respond_error_parse": 1})
    assert counted["dns_query_local"] == len(Outcome) + 3
    assert counted["dns_query_magic_success_name"] == 3
    assert counted["dns_query_magic_success_reverse"] == 1
    assert counted["dns_resolve_local"] == len(Outcome) - 4
    assert counted["dns_resolve_local_error_onion"] == 1
    assert counted["dns_reverse_miss_bonjour"] == 1
    assert counted["dns_query_fwd_error_no_upstream"] == 1
    assert all(name.startswith("dns_") for name in counted)


def test_zero_is_not_said() -> None:
    """Most of them are, most of the time."""
    assert metrics({}, {}) == {}
