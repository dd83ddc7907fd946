"""The metrics that are ours: ``tailnetd_…``.

Labels are bounded: kinds and reasons are fixed sets, relays are those of the network map, and of
the peers at most :data:`MAX_PEERS` have samples of their own.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from tailnet.agent.metrics.facts import NodeFacts, PeerFacts, ProcessFacts
from tailnet.agent.metrics.text import Metric, Sample, counter, gauge

MAX_PEERS = 100
PATHS = ("direct", "relay", "both", "peer-relay", "peer-relay-and-relay", "none")
SHOWN_STATES = (
    "NoState", "InUseOtherUser", "NeedsLogin", "NeedsMachineAuth", "Stopped", "Starting", "Running",
)  # fmt: skip


def node_metrics(node: NodeFacts) -> Iterator[Metric]:
    """The node, and the peers it talks with."""
    yield gauge(
        "tailnetd_build_info",
        "Always 1; version and datapath are labels.",
        Sample(1, {"version": node.version, "datapath": node.datapath}),
    )
    yield gauge(
        "tailnetd_state",
        "1 for the state the node is in.",
        *(Sample(state == node.state, {"state": state}) for state in SHOWN_STATES),
    )
    yield gauge(
        "tailnetd_health",
        "1 for each health message that shows.",
        *(Sample(1, {"code": c, "severity": how}) for c, how in sorted(node.warnings.items())),
    )
    yield gauge(
        "tailnetd_control_up", "1 while the control server is heard.", Sample(node.control_up)
    )
    left = () if node.key_left is None else (Sample(round(node.key_left)),)
    yield gauge("tailnetd_key_expiry_seconds", "Until the node key ends.", *left)
    yield gauge("tailnetd_derp_connections", "Relays connected now.", Sample(node.relays))
    yield gauge(
        "tailnetd_derp_latency_seconds",
        "To relays, as measured last.",
        *(Sample(s, {"region": str(region)}) for region, s in sorted(node.relay_latency.items())),
    )
    yield counter(
        "tailnetd_dropped_total",
        "What was not carried or not believed, by layer and reason.",
        *(
            Sample(count, {"layer": layer, "reason": reason})
            for layer, reasons in node.drops.items()
            for reason, count in sorted(reasons.items())
        ),
    )
    yield from _peers(node.peers)


def _peers(peers: tuple[PeerFacts, ...]) -> Iterator[Metric]:
    counts = Counter(peer.path for peer in peers)
    yield gauge(
        "tailnetd_peers",
        "Peers of the network map, by how they are reached.",
        *(Sample(counts[path], {"path": path}) for path in PATHS),
    )
    shown = sorted(peers, key=lambda peer: (-peer.last_used, peer.name))[:MAX_PEERS]
    shown = [peer for peer in shown if peer.last_used or peer.handshakes]
    yield gauge(
        "tailnetd_peers_shown",
        f"Peers with samples of their own: the latest used, at most {MAX_PEERS}.",
        Sample(len(shown)),
    )

    def each(value: Callable[[PeerFacts], float | None]) -> Iterator[Sample]:
        for peer in shown:
            if (number := value(peer)) is not None:
                yield Sample(number, {"peer": peer.name})

    yield gauge(
        "tailnetd_peer_path",
        "1 for the kind of path to a peer.",
        *(Sample(1, {"peer": peer.name, "path": peer.path}) for peer in shown),
    )
    yield gauge(
        "tailnetd_peer_latency_seconds",
        "Of the last pong on the path in use.",
        *each(lambda peer: peer.latency),
    )
    yield counter(
        "tailnetd_peer_path_switches_total",
        "Changes of the path to a peer.",
        *each(lambda peer: peer.switches),
    )
    yield counter(
        "tailnetd_peer_handshakes_total",
        "WireGuard handshakes with a peer that made a session.",
        *each(lambda peer: peer.handshakes),
    )
    yield gauge(
        "tailnetd_peer_last_handshake_timestamp_seconds",
        "Unix time of the last one.",
        *each(lambda peer: peer.last_handshake or None),
    )
    yield counter(
        "tailnetd_peer_received_bytes_total",
        "Bytes of IP from a peer.",
        *each(lambda peer: peer.rx_bytes),
    )
    yield counter(
        "tailnetd_peer_sent_bytes_total",
        "Bytes of IP to a peer.",
        *each(lambda peer: peer.tx_bytes),
    )


def internal_metrics(node: NodeFacts, process: ProcessFacts) -> Iterator[Metric]:
    """For those who debug the daemon; names may change."""
    for name, count in sorted(node.dns.items()):
        yield counter(name, "Queries, as upstream's resolver counts them.", Sample(count))
    yield counter("process_cpu_seconds_total", "User and system time.", Sample(process.cpu))
    yield gauge("process_resident_memory_bytes", "Resident memory.", Sample(process.memory))
    yield gauge("process_open_fds", "Open descriptors.", Sample(process.descriptors))
    yield gauge("process_start_time_seconds", "Unix time of the start.", Sample(process.started))
    yield gauge("tailnetd_tasks", "Tasks of the event loop.", Sample(process.tasks))
    yield gauge("tailnetd_watchers", "Watchers of the bus.", Sample(process.watchers))
    yield counter(
        "tailnetd_gc_collections_total",
        "Runs of the garbage collector, by generation.",
        *(Sample(n, {"generation": str(at)}) for at, n in enumerate(process.collected)),
    )
