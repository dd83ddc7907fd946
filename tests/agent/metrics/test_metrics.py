"""Prometheus' own parser reads what we write, and finds upstream's names."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tailnet.agent.datapath.interface import Carried
from tailnet.agent.datapath.reference import drops
from tailnet.agent.datapath.reference.traffic import KINDS
from tailnet.agent.localapi.schema.status import STATES
from tailnet.agent.metrics.facts import NodeFacts, PeerFacts, ProcessFacts
from tailnet.agent.metrics.ours import MAX_PEERS, SHOWN_STATES, internal_metrics, node_metrics
from tailnet.agent.metrics.text import Kind, Metric, Sample, render
from tailnet.agent.metrics.upstream import upstream_metrics

Read = dict[tuple[str, frozenset[tuple[str, str]]], float]

EVERYTHING = NodeFacts(
    version="1.2",
    datapath="native",
    state="Running",
    traffic={
        kind: Carried(4 * n + 1, 4 * n + 2, 4 * n + 3, 4 * n + 4) for n, kind in enumerate(KINDS)
    },
    drops={"packets": {"in_denied": 5, "in_not_local": 1, "out_no_peer": 2}, "disco": {"odd": 3}},
    warnings={"no-derp-home": "medium", "login-state": "high"},
    advertised=3,
    approved=2,
    home=9,
    relays=1,
    relay_latency={9: 0.025},
    control_up=True,
    key_left=60.4,
    peers=(
        PeerFacts("a.x.ts.net", "direct", 0.003, 2, 4, 1_700_000_000.5, 7.0, 10, 11),
        PeerFacts("b.x.ts.net", "none"),
    ),
    dns={"dns_query_local": 8},
    forwarded={(4, 6): 12},
    forwarded_bytes={(4, 6): 1200},
    relay_sessions=(1, 2),
)
PROCESS = ProcessFacts(1.5, 50 << 20, 33, 20, 4, 1_700_000_000.0, (9, 8, 7))


def read(text: str) -> Read:
    """By name and labels, as Prometheus would."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def one(values: Read, name: str, **labels: str) -> float:
    """A sample."""
    return values[name, frozenset(labels.items())]


def test_upstreams_names_and_labels() -> None:
    """Those of its dashboards."""
    values = read(render(upstream_metrics(EVERYTHING)))
    assert one(values, "tailscaled_inbound_packets_total", path="direct_ipv4") == 1
    assert one(values, "tailscaled_inbound_bytes_total", path="direct_ipv6") == 6
    assert one(values, "tailscaled_outbound_packets_total", path="derp") == 11
    assert one(values, "tailscaled_outbound_bytes_total", path="peer_relay_ipv6") == 20
    assert one(values, "tailscaled_inbound_dropped_packets_total", reason="acl") == 6
    assert one(values, "tailscaled_outbound_dropped_packets_total", reason="error") == 2
    assert one(values, "tailscaled_health_messages", type="warning") == 2
    assert one(values, "tailscaled_advertised_routes") == 3
    assert one(values, "tailscaled_approved_routes") == 2
    assert one(values, "tailscaled_home_derp_region_id") == 9
    relayed = {"transport_in": "udp4", "transport_out": "udp6"}
    assert one(values, "tailscaled_peer_relay_forwarded_packets_total", **relayed) == 12
    assert one(values, "tailscaled_peer_relay_forwarded_bytes_total", **relayed) == 1200
    assert one(values, "tailscaled_peer_relay_endpoints", state="open") == 1
    assert one(values, "tailscaled_peer_relay_endpoints", state="connecting") == 2


def test_every_drop_of_packets_has_one_of_upstreams_reasons() -> None:
    """But copies that a capture missed, and upcalls, which are no packets."""
    for name in set(drops.NAMES) - {drops.CAPTURE, drops.UPCALLS_FULL}:
        values = read(render(upstream_metrics(NodeFacts(drops={"packets": {name: 1}}))))
        assert sum(n for (of, _), n in values.items() if "dropped" in of) == 1, name


def test_ours_say_how_each_peer_is_reached() -> None:
    """A peer that was never used has no samples of its own, but counts."""
    values = read(render(node_metrics(EVERYTHING)))
    assert one(values, "tailnetd_peers", path="direct") == 1
    assert one(values, "tailnetd_peers", path="none") == 1
    assert one(values, "tailnetd_peers_shown") == 1
    assert one(values, "tailnetd_peer_path", peer="a.x.ts.net", path="direct") == 1
    assert one(values, "tailnetd_peer_latency_seconds", peer="a.x.ts.net") == 0.003
    assert one(values, "tailnetd_peer_path_switches_total", peer="a.x.ts.net") == 2
    assert one(values, "tailnetd_peer_handshakes_total", peer="a.x.ts.net") == 4
    assert one(values, "tailnetd_state", state="Running") == 1
    assert one(values, "tailnetd_state", state="Stopped") == 0
    assert one(values, "tailnetd_health", code="login-state", severity="high") == 1
    assert one(values, "tailnetd_dropped_total", layer="disco", reason="odd") == 3
    assert one(values, "tailnetd_derp_latency_seconds", region="9") == 0.025
    assert one(values, "tailnetd_key_expiry_seconds") == 60
    assert SHOWN_STATES == STATES


def test_the_number_of_peers_with_samples_is_bounded() -> None:
    """The latest used stay."""
    crowd = tuple(PeerFacts(f"p{n}", "relay", last_used=float(n)) for n in range(1000))
    values = read(render(node_metrics(NodeFacts(peers=crowd))))
    shown = {dict(labels)["peer"] for name, labels in values if name == "tailnetd_peer_path"}
    assert shown == {f"p{n}" for n in range(1000 - MAX_PEERS, 1000)}
    assert one(values, "tailnetd_peers", path="relay") == 1000


def test_the_process_is_counted_for_those_who_debug_it() -> None:
    """With the names that dashboards of processes know."""
    values = read(render(internal_metrics(EVERYTHING, PROCESS)))
    assert one(values, "process_resident_memory_bytes") == 50 << 20
    assert one(values, "process_open_fds") == 33
    assert one(values, "dns_query_local_total") == 8
    assert one(values, "tailnetd_gc_collections_total", generation="2") == 7


def test_a_node_without_anything_has_well_formed_metrics() -> None:
    """Before the first login."""
    facts = NodeFacts()
    text = render([*upstream_metrics(facts), *node_metrics(facts)])
    assert one(read(text), "tailnetd_control_up") == 0
    assert "peer_relay" not in text


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_label_and_number_survive_the_text(value: str, number: float) -> None:
    """Peers choose their names."""
    text = render([Metric("m", Kind.GAUGE, "About.", (Sample(number, {"peer": value}),))])
    assert read(text) == {("m", frozenset({("peer", value)})): number}
