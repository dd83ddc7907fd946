"""``tnet status``.

Source: tailscale cmd/tailscale/cli/status.go.
"""

from collections.abc import Iterator
from datetime import datetime, timezone

import click
from msgspec import UNSET, json

from tailnet.agent.localapi.schema.status import PeerStatus, Status
from tailnet.cli.client import LocalClient
from tailnet.cli.connect import with_client
from tailnet.cli.errors import Silent
from tailnet.cli.flags import GoCommand, flag
from tailnet.cli.jsontext import indented
from tailnet.cli.terminal import fitted, room
from tailnet.cli.text import broken, clean

EXIT_NODES = "# Exit nodes by place are not listed here; see: tnet exit-node list"
ITEM = "#     - "
HEADER = ("IP", "Hostname", "Owner", "OS", "Status")


@click.command(cls=GoCommand, help="Show the state of tailnetd and its connections.")
@flag("json", help="Output JSON.")
@flag("active", help="Show only peers with active sessions.")
@flag("self", default=True, help="Show this machine.")
@flag("peers", default=True, help="Show peers.")
@flag("header", help="Show column headers.")
@flag("watch", help="Show paths, latencies and rates live, until Ctrl-C.")
@with_client
def command(  # noqa: PLR0913 - one a flag
    client: LocalClient,
    *,
    json: bool,
    active: bool,
    self: bool,
    peers: bool,
    header: bool,
    watch: bool,
) -> None:
    """Ask once, print; or look again and again."""
    if watch:
        if json or active or header or not (self and peers):
            msg = "--watch takes no other flag"
            raise click.UsageError(msg)
        _watch(client)
        return
    if json:
        click.echo(_json(client, active=active, peers=peers), nl=False)
        return
    status = client.status(peers=peers)
    text, running = describe_state(status)
    if not running:
        click.echo(text)
        if status.backend_state in ("NeedsLogin", "NoState"):  # and why, if that is known
            for line in health_lines(status):
                click.echo(line)
        raise Silent
    for line in render(status, show_self=self, active=active, header=header, now=_now()):
        click.echo(line)


def _watch(client: LocalClient) -> None:
    from tailnet.cli.live import Lookout  # noqa: PLC0415 - not for a single look
    from tailnet.cli.screen import show  # noqa: PLC0415

    show(Lookout(client, busiest=False).take, every=1.0, times=0)


def _now() -> datetime:
    return datetime.now(timezone.utc)  # noqa: UP017 - one import less


def _json(client: LocalClient, *, active: bool, peers: bool) -> str:
    data = client.request("GET", "status" if peers else "status?peers=false")
    if active:
        tree = json.decode(data)
        tree["Peer"] = {k: p for k, p in (tree.get("Peer") or {}).items() if p.get("Active")}
        data = json.encode(tree)
    return indented(data)


def describe_state(status: Status) -> tuple[str, bool]:
    """A line about the state, and whether there is anything to list."""
    match status.backend_state:
        case "Running" | "Starting":
            return status.backend_state, True
        case "Stopped":
            return "Tailscale is stopped.", False
        case "NeedsLogin":
            url = f"\nLog in at: {clean(status.auth_url)}" if status.auth_url else ""
            return f"Logged out.{url}", False
        case "NeedsMachineAuth":
            return "Machine is not yet approved by tailnet admin.", False
        case "NoState":
            return "tailnetd has just started; ask again in a moment.", False
        case other:
            return f"unexpected state: {clean(other)}", False


def health_lines(status: Status) -> list[str]:
    """What is wrong."""
    if not status.health:
        return []
    columns = room() or 1 << 20
    lines = ["# Health check:"]
    for each in status.health:
        first, *more = broken(clean(each), columns - len(ITEM))
        lines += [ITEM + first, *(f"#{line:>{len(ITEM) - 1 + len(line)}}" for line in more)]
    return lines


def render(
    status: Status, *, show_self: bool, active: bool, header: bool, now: datetime
) -> Iterator[str]:
    """The lines of the table, and health below it."""
    rows = [HEADER] if header else []
    hidden = False
    if show_self and status.self_ is not None:
        rows.append(_row(status, status.self_, now))
    for peer in sorted((status.peer or {}).values(), key=_order):
        far = isinstance(peer.location, dict) and not peer.exit_node  # one of many, to choose from
        hidden = hidden or far
        if not far and peer.sharee_node is not True and (peer.active or not active):
            rows.append(_row(status, peer, now))
    yield from fitted(rows)
    if hidden:
        yield ""
        yield EXIT_NODES
    if health := health_lines(status):
        yield ""
        yield from health


def _order(peer: PeerStatus) -> tuple[str, str]:
    return (peer.dns_name or peer.host_name).lower(), peer.public_key


def _row(status: Status, peer: PeerStatus, now: datetime) -> tuple[str, str, str, str, str]:
    return (
        clean(peer.tailscale_ips[0]) if peer.tailscale_ips else "",
        _name(status, peer),
        _owner(status, peer),
        clean(peer.os),
        _state(peer, now),
    )


def _name(status: Status, peer: PeerStatus) -> str:
    suffix = status.current_tailnet.magic_dns_suffix if status.current_tailnet else ""
    name = peer.dns_name.rstrip(".")
    base = clean(name.removesuffix(f".{suffix or status.magic_dns_suffix}"))
    if not base:
        return f'("{clean(peer.host_name)}")'
    if any(label.startswith("xn--") for label in base.split(".")):
        try:
            return f"{base} ({clean(base.encode().decode('idna'))})"
        except UnicodeError:
            return base
    return base


def _owner(status: Status, peer: PeerStatus) -> str:
    sharer = 0 if peer.alt_sharer_user_id is UNSET else peer.alt_sharer_user_id
    user = sharer or peer.user_id
    if not user:
        return "-"
    profile = (status.user or {}).get(user)
    if profile is None:
        return str(user)
    name, at, _ = clean(profile.login_name).partition("@")
    return name + at


def _state(peer: PeerStatus, now: datetime) -> str:
    traffic = bool(peer.tx_bytes or peer.rx_bytes)
    seen = "" if peer.online else _last_seen(peer.last_seen, now)
    offline = "" if peer.online else f"; offline{seen}"
    exits = (
        "; exit node" if peer.exit_node else "; offers exit node" if peer.exit_node_option else ""
    )
    if peer.active:
        text = f"active{exits}; {_path(peer)}{offline}"
    elif exits or traffic:
        text = f"idle{exits}{offline}"
    else:
        text = "-" if peer.online else f"offline{seen}"
    return f"{text}, tx {peer.tx_bytes} rx {peer.rx_bytes}" if traffic else text


def _path(peer: PeerStatus) -> str:
    if peer.cur_addr:
        return f"direct {clean(peer.cur_addr)}"
    if peer.peer_relay:
        return f"peer-relay {clean(peer.peer_relay)}"
    return f'relay "{clean(peer.relay)}"' if peer.relay else ""


def _last_seen(at: datetime, now: datetime) -> str:
    if at.year <= 1:
        return ""
    minutes = int((now - at).total_seconds() // 60)
    if minutes < 1:
        return ", last seen just now"
    if minutes < 60:
        return f", last seen {minutes}m ago"
    return (
        f", last seen {minutes // 60}h ago"
        if minutes < 1440
        else f", last seen {minutes // 1440}d ago"
    )
