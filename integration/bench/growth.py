"""What ``integration.bench.control`` measured at each size, as tables and as lines of a plot."""

from dataclasses import dataclass, field

from integration.bench.crowd import KINDS


@dataclass(slots=True)
class Result:
    """What was measured at one size.  Seconds, bytes, and CPU seconds."""

    peers: int
    map_to_running: float = 0.0
    map_cpu: float = 0.0
    blocks: dict[str, tuple[float, str]] = field(default_factory=dict)  # by phase
    reconnect_cpu: float = 0.0
    status: float = 0.0
    resident: int = 0
    per_delta: dict[str, float] = field(default_factory=dict)
    churn_cpu: float = 0.0


def table(results: list[Result]) -> str:
    """For people, in the form of docs/performance.md."""
    empty, *rest = results
    head = "peers|map → Running, s|its CPU, s|the same again, CPU s|status, s|memory per peer, KB"
    head += "|dearest delta, CPU ms|churn of 50/s, CPU"
    rows = [f"|{head}|", "|---" * 8 + "|"]
    for one in rest:
        memory = (one.resident - empty.resident) / one.peers / 1000
        rows.append(
            f"| {one.peers:,} | {one.map_to_running:.2f} | {one.map_cpu:.2f} "
            f"| {one.reconnect_cpu:.2f} | {one.status:.2f} | {memory:.1f} "
            f"| {max(one.per_delta.values()) * 1e3:.1f} | {one.churn_cpu:.0%} |"
        )
    phases = list(rest[0].blocks) if rest else []
    rows += ["", "Longest block, ms:", "| peers | " + " | ".join(phases) + " |"]
    rows.append("|---" * (len(phases) + 1) + "|")
    for one in rest:
        cells = (f"{one.blocks[p][0] * 1e3:.0f} ({one.blocks[p][1]})" for p in phases)
        rows.append(f"| {one.peers:,} | " + " | ".join(cells) + " |")
    rows += ["", "CPU ms per delta:", "| peers | " + " | ".join(KINDS) + " |"]
    rows.append("|---" * (len(KINDS) + 1) + "|")
    for one in rest:
        costs = " | ".join(f"{one.per_delta[kind] * 1e3:.1f}" for kind in KINDS)
        rows.append(f"| {one.peers:,} | {costs} |")
    return "\n".join(rows)


def growth(results: list[Result]) -> dict[str, list[tuple[int, float]]]:
    """Lines of the plot: what is measured, by number of peers."""
    empty, *rest = results
    return {
        "CPU until Running, ms": [(one.peers, one.map_cpu * 1e3) for one in rest],
        "memory, MB": [(one.peers, (one.resident - empty.resident) / 1e6) for one in rest],
        "dearest delta, CPU ms": [(one.peers, max(one.per_delta.values()) * 1e3) for one in rest],
        "longest block until Running, ms": [
            (one.peers, one.blocks["map"][0] * 1e3) for one in rest
        ],
    }
