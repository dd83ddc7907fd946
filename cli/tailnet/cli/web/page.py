"""What the page shows, from the daemon's status and paths: a pure function.

::

    Status, PathDetails ──► head ─ health ─ map of paths ─ peers ─ exit nodes ─ routes ─ names
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tailnet.agent.localapi.schema.paths import PathDetails
from tailnet.agent.localapi.schema.status import PeerStatus, Status
from tailnet.cli.meter import NO_RATE, Rate, format_rate, format_size
from tailnet.cli.text import format_latency
from tailnet.cli.web.markup import Markup, join, tag
from tailnet.cli.web.plan import Plan, names_section, routes_section

MAX_DRAWN = 40  # peers on the map; the table has all
MAX_LISTED = 500
WIDTH, HEIGHT = 640, 420


class View(NamedTuple):
    """One look.

    Attributes:
        status: the daemon's.
        paths: by stable id.
        rates: by public key.
        actions: this page may change something.
        plan: routes and names.
    """

    status: Status
    paths: Mapping[str, PathDetails]
    rates: Mapping[str, Rate]
    actions: bool
    plan: Plan = Plan()


def render(view: View) -> Markup:
    """The changing part of the page."""
    status = view.status
    if status.backend_state != "Running":
        return join((_head(view), _login(view), _health(status)))
    peers = sorted((status.peer or {}).values(), key=_order)
    return join(
        (
            _head(view),
            _health(status),
            _map(view, peers),
            _table(view, peers),
            _exit_nodes(view, peers),
            routes_section(view.plan),
            names_section(view.plan),
        )
    )


def _order(peer: PeerStatus) -> tuple[bool, bool, str]:
    return (not peer.online, not peer.active, (peer.dns_name or peer.host_name).lower())


def _name(peer: PeerStatus) -> str:
    return peer.dns_name.partition(".")[0] or peer.host_name


def _head(view: View) -> Markup:
    status, me = view.status, view.status.self_
    running = status.backend_state == "Running"
    facts = [
        ("Addresses", ", ".join(status.tailscale_ips or ())),
        ("Tailnet", status.current_tailnet.name if status.current_tailnet else ""),
        ("MagicDNS", status.current_tailnet.magic_dns_suffix if status.current_tailnet else ""),
        ("Home relay", me.relay if me else ""),
        ("In", format_rate(sum(r.received for r in view.rates.values())) or "0 B/s"),
        ("Out", format_rate(sum(r.sent for r in view.rates.values())) or "0 B/s"),
    ]
    rows = [join((tag("dt", key), tag("dd", value))) for key, value in facts if value]
    button = None
    if view.actions and status.backend_state in ("Running", "Stopped"):
        what = "down" if running else "up"
        button = tag("button", "Disconnect" if running else "Connect", data_action=what)
    return tag(
        "header",
        tag("h1", _name(me) if me else "this machine", " ", tag("small", status.backend_state)),
        button,
        tag("dl", *rows) if running else None,
    )


def _login(view: View) -> Markup | None:
    if view.status.backend_state != "NeedsLogin":
        return None
    if not view.status.auth_url.startswith(("https://", "http://")):
        button = tag("button", "Log in", data_action="login") if view.actions else None
        return tag("section", tag("p", "This machine is logged out; log in with: tnet up"), button)
    url = view.status.auth_url
    return tag(
        "section",
        tag("h2", "Log in"),
        tag("p", tag("a", url, href=url, rel="noreferrer")),
        _qr(url),
    )


def _qr(url: str) -> Markup:
    import segno  # noqa: PLC0415 - only while a login waits

    drawing: str = segno.make_qr(url, error="m").svg_inline(scale=5, border=2, light="#fff")
    return Markup(f'<div class="qr">{drawing}</div>')


def _health(status: Status) -> Markup | None:
    if not status.health:
        return None
    lines = [tag("li", line) for line in status.health]
    return tag("section", tag("h2", "Warnings"), tag("ul", *lines), class_="health")


def _map(view: View, peers: Sequence[PeerStatus]) -> Markup | None:
    """This machine in the middle, peers around it, a line for how each is reached."""
    shown = [peer for peer in peers if peer.online or peer.active][:MAX_DRAWN]
    if not shown:
        return None
    middle_x, middle_y = WIDTH / 2, HEIGHT / 2
    lines, dots = [], []
    for i, peer in enumerate(shown):
        angle = 2 * math.pi * i / len(shown) - math.pi / 2
        x = round(middle_x + math.cos(angle) * WIDTH * 0.36, 1)
        y = round(middle_y + math.sin(angle) * HEIGHT * 0.38, 1)
        kind, about = _kind(peer, view.paths.get(peer.id))
        lines.append(tag("line", x1=middle_x, y1=middle_y, x2=x, y2=y, class_=kind))
        latency = about.latency_seconds if about is not None else None
        label = _name(peer)[:18] + ("" if latency is None else f" {format_latency(latency)}")
        dots.append(tag("circle", cx=x, cy=y, r=6, class_=kind))
        dots.append(tag("text", label, x=x, y=y + (20 if y >= middle_y else -12)))
    me = _name(view.status.self_) if view.status.self_ else ""
    hidden = len([p for p in peers if p.online or p.active]) - len(shown)
    return tag(
        "section",
        tag("h2", "Paths"),
        tag(
            "svg",
            *lines,
            *dots,
            tag("circle", cx=middle_x, cy=middle_y, r=9, class_="me"),
            tag("text", me, x=middle_x, y=middle_y + 24, class_="me"),
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
            aria_label="how peers are reached",
        ),
        tag(
            "p",
            *(
                tag("span", kind, class_=f"key {kind}")
                for kind in ("direct", "port-mapped", "peer-relay", "relay", "idle")
            ),
            f" and {hidden} more" if hidden > 0 else None,
            class_="keys",
        ),
    )


def _kind(peer: PeerStatus, about: PathDetails | None) -> tuple[str, PathDetails | None]:
    if peer.cur_addr:
        mapped = about is not None and about.port_mapped
        return ("port-mapped" if mapped else "direct"), about
    if peer.peer_relay:
        return "peer-relay", about
    return ("relay" if peer.active else "idle"), about


def _table(view: View, peers: Sequence[PeerStatus]) -> Markup:
    head = tag(
        "tr",
        *(
            tag("th", name)
            for name in ("Peer", "Address", "OS", "Path", "Latency", "In", "Out", "Total")
        ),
    )
    rows = [_row(view, peer) for peer in peers[:MAX_LISTED]]
    more = f"… and {len(peers) - MAX_LISTED} more" if len(peers) > MAX_LISTED else None
    return tag(
        "section",
        tag("h2", f"Peers ({len(peers)})"),
        tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), class_="wide"),
        tag("p", more) if more else None,
    )


def _row(view: View, peer: PeerStatus) -> Markup:
    kind, about = _kind(peer, view.paths.get(peer.id))
    rate = view.rates.get(peer.public_key, NO_RATE)
    latency = about.latency_seconds if about is not None else None
    where = peer.cur_addr or peer.peer_relay or (peer.relay if kind == "relay" else "")
    cells = (
        _name(peer),
        peer.tailscale_ips[0] if peer.tailscale_ips else "",
        peer.os,
        f"{kind} {where}".strip() if peer.online or peer.active else "offline",
        "" if latency is None else format_latency(latency),
        format_rate(rate.received),
        format_rate(rate.sent),
        format_size(peer.rx_bytes + peer.tx_bytes) if peer.rx_bytes or peer.tx_bytes else "",
    )
    return tag("tr", *(tag("td", cell) for cell in cells), class_=None if peer.online else "off")


def _exit_nodes(view: View, peers: Sequence[PeerStatus]) -> Markup | None:
    offers = [peer for peer in peers if peer.exit_node_option]
    if not offers:
        return None
    rows = []
    for peer in offers:
        button = None
        if view.actions and peer.tailscale_ips:
            address = "" if peer.exit_node else peer.tailscale_ips[0]
            text = "Stop" if peer.exit_node else "Use"
            button = tag("button", text, data_action="exit-node", data_value=address)
        rows.append(tag("li", _name(peer), " (in use) " if peer.exit_node else " ", button))
    return tag("section", tag("h2", "Exit nodes"), tag("ul", *rows))
