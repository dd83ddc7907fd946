"""The user metrics that upstream's daemon has, under its names.

Source: tailscale util/usermetric, wgengine/magicsock/magicsock.go, net/tstun/wrap.go,
net/udprelay/server.go, ipn/ipnlocal/local.go.
"""

from collections.abc import Iterator, Mapping

from tailnet.agent.metrics.facts import NodeFacts
from tailnet.agent.metrics.text import Metric, Sample, counter, gauge

# Our counters of packets (the layer "packets") by upstream's reasons.
_INBOUND = {
    "acl": ("in_denied", "in_not_local"),
    "multicast": ("in_multicast",),
    "link_local_unicast": ("in_link_local",),
    "too_short": ("in_malformed",),
    "error": (
        "in_unknown", "in_no_session", "in_expired", "in_forged", "in_replay", "in_source",
        "in_service", "in_checksum", "tun_write", "udp_read",
    ),
}  # fmt: skip
_OUTBOUND = {
    "acl": ("out_filter", "out_tsmp"),
    "too_short": ("out_malformed",),
    "error": (
        "out_service", "out_no_peer", "out_queue_full", "out_discarded", "out_no_path", "out_send",
        "out_backlog", "out_checksum",
    ),
}  # fmt: skip


def upstream_metrics(node: NodeFacts) -> Iterator[Metric]:
    """All that concerns what exists."""
    ways = list(node.traffic.items())
    for direction, packets, size in (("inbound", 0, 1), ("outbound", 2, 3)):
        verb = "received from" if direction == "inbound" else "sent to"
        yield counter(
            f"tailscaled_{direction}_packets_total",
            f"Packets {verb} peers, by path.",
            *(Sample(count[packets], {"path": way}) for way, count in ways),
        )
        yield counter(
            f"tailscaled_{direction}_bytes_total",
            f"Bytes of IP {verb} peers, by path.",
            *(Sample(count[size], {"path": way}) for way, count in ways),
        )
    dropped = node.drops.get("packets", {})
    for direction, reasons in (("inbound", _INBOUND), ("outbound", _OUTBOUND)):
        yield counter(
            f"tailscaled_{direction}_dropped_packets_total",
            f"{direction.capitalize()} packets that were dropped, by reason.",
            *_dropped(dropped, reasons),
        )
    yield gauge(
        "tailscaled_health_messages",
        "Health messages that show now.",
        Sample(len(node.warnings), {"type": "warning"}),
    )
    yield gauge("tailscaled_advertised_routes", "Routes this node offers.", Sample(node.advertised))
    yield gauge(
        "tailscaled_approved_routes",
        "Routes this node offers that control lets others use.",
        Sample(node.approved),
    )
    yield gauge(
        "tailscaled_home_derp_region_id", "Region of the home relay; 0: none.", Sample(node.home)
    )
    yield from _peer_relay(node)


def _dropped(
    dropped: Mapping[str, int], reasons: Mapping[str, tuple[str, ...]]
) -> Iterator[Sample]:
    for reason, ours in reasons.items():
        yield Sample(sum(dropped.get(each, 0) for each in ours), {"reason": reason})


def _peer_relay(node: NodeFacts) -> Iterator[Metric]:
    relays = node.relay_sessions is not None or node.forwarded
    pairs = [(a, b) for a in (4, 6) for b in (4, 6)] if relays else ()
    for name, about, counted in (
        ("packets", "Datagrams", node.forwarded),
        ("bytes", "Bytes", node.forwarded_bytes),
    ):
        yield counter(
            f"tailscaled_peer_relay_forwarded_{name}_total",
            f"{about} passed on between other peers.",
            *(
                Sample(
                    counted.get((a, b), 0), {"transport_in": f"udp{a}", "transport_out": f"udp{b}"}
                )
                for a, b in pairs
            ),
        )
    states = zip(("connecting", "open"), reversed(node.relay_sessions or ()), strict=False)
    yield gauge(
        "tailscaled_peer_relay_endpoints",
        "Pairs of peers for which this node relays, by how far they are.",
        *(Sample(count, {"state": state}) for state, count in states),
    )
