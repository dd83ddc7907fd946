"""What ``tnet top`` and ``tnet status --watch`` show: peers, their paths, and what flows."""

from collections.abc import Callable

from tailnet.agent import clock
from tailnet.agent.localapi.schema.paths import PathDetails
from tailnet.agent.localapi.schema.status import PeerStatus, Status
from tailnet.cli.client import LocalClient
from tailnet.cli.meter import NO_RATE, Counters, Meter, Rate, format_rate, format_size, sparkline
from tailnet.cli.screen import Picture
from tailnet.cli.text import clean, format_latency

HEADER = ("Peer", "IP", "Path", "Latency", "In", "Out", "Traffic", "Received", "Sent")
NUMBERS = frozenset({3, 4, 5, 7, 8})


class Lookout:
    """Looks at one daemon again and again.

    Args:
        busiest: those with the most traffic come first, and the others are left out.
    """

    def __init__(self, client: LocalClient, *, busiest: bool) -> None:
        self._client = client
        self._busiest = busiest
        self._meter = Meter()

    def take(self) -> Picture:
        """One look."""
        status = self._client.status()
        paths = {}
        if status.backend_state == "Running":
            paths = {about.id: about for about in self._client.get("path", list[PathDetails])}
        peers = list((status.peer or {}).values())
        counters = {p.public_key: Counters(p.rx_bytes, p.tx_bytes) for p in peers}
        rates = self._meter.look(counters, clock.now())
        return picture(status, paths, rates, busiest=self._busiest)


def picture(
    status: Status, paths: dict[str, PathDetails], rates: dict[str, Rate], *, busiest: bool
) -> Picture:
    """A look as a table."""
    peers = list((status.peer or {}).values())
    if busiest:
        peers = [p for p in peers if p.rx_bytes or p.tx_bytes]
        by: Callable[[PeerStatus], object] = lambda p: (  # noqa: E731 - a key
            -rates.get(p.public_key, NO_RATE).both,
            -(p.rx_bytes + p.tx_bytes),
        )
        peers.sort(key=by)  # type: ignore[arg-type]
    else:
        peers.sort(key=lambda p: (not p.online, (p.dns_name or p.host_name).lower()))
    rows = [
        _row(p, paths.get(p.id), rates.get(p.public_key, NO_RATE), busiest=busiest) for p in peers
    ]
    inward = sum(rate.received for rate in rates.values())
    outward = sum(rate.sent for rate in rates.values())
    name = clean(status.self_.dns_name.partition(".")[0]) if status.self_ else ""
    title = (
        f"{name or 'this machine'}  {clean(status.backend_state)}  "
        f"in {format_rate(inward) or '0 B/s'}  out {format_rate(outward) or '0 B/s'}"
    )
    return Picture(
        title, HEADER, rows, [f"# {clean(line)}" for line in status.health or ()], NUMBERS
    )


def _row(
    peer: PeerStatus, about: PathDetails | None, rate: Rate, *, busiest: bool
) -> tuple[str, ...]:
    latency = about.latency_seconds if about is not None else None
    return (
        clean(peer.dns_name.partition(".")[0] or peer.host_name),
        clean(peer.tailscale_ips[0]) if peer.tailscale_ips else "",
        _path(peer, about),
        "" if latency is None else format_latency(latency),
        format_rate(rate.received),
        format_rate(rate.sent),
        sparkline(rate.recent) if busiest or rate.both or any(rate.recent) else "",
        format_size(peer.rx_bytes) if peer.rx_bytes else "",
        format_size(peer.tx_bytes) if peer.tx_bytes else "",
    )


def _path(peer: PeerStatus, about: PathDetails | None) -> str:
    if not peer.online and not peer.active:
        return "offline"
    if peer.cur_addr:
        return f"direct {clean(peer.cur_addr)}"
    if peer.peer_relay:
        return f"peer-relay {clean(peer.peer_relay)}"
    if about is not None and about.kind == "none" and not about.relay:
        return "-"
    return f"relay {clean(peer.relay)}" if peer.active and peer.relay else "-"
