"""The table of ``tnet status``."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tailnet.agent.localapi.schema.identity import UserProfile
from tailnet.agent.localapi.schema.status import PeerStatus, Status, TailnetStatus
from tailnet.cli.commands.status import describe_state, render

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def peer(name: str, number: int, **changes: Any) -> PeerStatus:  # noqa: ANN401 - any field
    """A peer that is online."""
    start = PeerStatus(
        id=f"n{number}",
        public_key=f"nodekey:{number:064x}",
        host_name=name,
        dns_name=f"{name}.example.ts.net.",
        os="linux",
        user_id=1,
        tailscale_ips=(f"100.64.0.{number}",),
        online=True,
        relay="nyc",
    )
    return msgspec.structs.replace(start, **changes)


def status(*peers: PeerStatus, **changes: Any) -> Status:  # noqa: ANN401 - any field
    """A running node with peers."""
    start = Status(
        backend_state="Running",
        tailscale_ips=("100.64.0.1",),
        self_=peer("me", 1),
        current_tailnet=TailnetStatus(name="example", magic_dns_suffix="example.ts.net"),
        peer={p.public_key: p for p in peers},
        user={1: UserProfile(id=1, login_name="alice@example.com")},
    )
    return msgspec.structs.replace(start, **changes)


def lines(about: Status, **flags: bool) -> list[str]:
    """What is printed."""
    start = {"show_self": True, "active": False, "header": False}
    return list(render(about, **{**start, **flags}, now=NOW))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "-"),
        ({"rx_bytes": 5, "tx_bytes": 7}, "idle, tx 7 rx 5"),
        ({"online": False}, "offline"),
        ({"online": False, "last_seen": NOW - timedelta(hours=3)}, "offline, last seen 3h ago"),
        ({"online": False, "last_seen": NOW - timedelta(days=3)}, "offline, last seen 3d ago"),
        ({"online": False, "last_seen": NOW + timedelta(hours=1)}, "offline, last seen just now"),
        ({"online": False, "rx_bytes": 1}, "idle; offline, tx 0 rx 1"),
        ({"exit_node": True}, "idle; exit node"),
        ({"exit_node_option": True}, "idle; offers exit node"),
        ({"active": True, "cur_addr": "192.0.2.1:4"}, "active; direct 192.0.2.1:4"),
        ({"active": True}, 'active; relay "nyc"'),
        (
            {"active": True, "peer_relay": "192.0.2.1:4:vni:1"},
            "active; peer-relay 192.0.2.1:4:vni:1",
        ),
        (
            {"active": True, "exit_node": True, "cur_addr": "192.0.2.1:4", "tx_bytes": 1},
            "active; exit node; direct 192.0.2.1:4, tx 1 rx 0",
        ),
    ],
)
def test_state_of_a_peer(changes: dict[str, Any], text: str) -> None:
    """Every row of the table of states."""
    (line,) = lines(status(peer("box", 2, **changes)), show_self=False)
    assert line == f"100.64.0.2  box  alice@  linux  {text}"


def test_the_whole_table() -> None:
    """Header, self first, peers by name, health below."""
    about = status(
        peer("zoo", 2),
        peer("box", 3, user_id=0, os="macOS"),
        peer("tagged", 4, user_id=2),
        peer("hidden", 5, sharee_node=True),
        health=("something is wrong",),
    )
    assert lines(about, header=True) == [
        "IP          Hostname  Owner   OS     Status",
        "100.64.0.1  me        alice@  linux  -",
        "100.64.0.3  box       -       macOS  -",
        "100.64.0.4  tagged    2       linux  -",
        "100.64.0.2  zoo       alice@  linux  -",
        "",
        "# Health check:",
        "#     - something is wrong",
    ]


def test_only_active_peers() -> None:
    """With ``--active``."""
    about = status(peer("a", 2), peer("b", 3, active=True))
    assert [line.split()[1] for line in lines(about, active=True)] == ["me", "b"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"dns_name": ""}, '("box")'),
        ({"dns_name": "box.elsewhere.net."}, "box.elsewhere.net"),
        ({"dns_name": "xn--bcher-kva.example.ts.net."}, "xn--bcher-kva (bücher)"),
        ({"dns_name": "xn--.example.ts.net."}, "xn-- ("),
    ],
)
def test_names(changes: dict[str, Any], name: str) -> None:
    """MagicDNS base name, quoted hostname, or both forms of punycode."""
    (line,) = lines(status(peer("box", 2, **changes)), show_self=False)
    assert name.strip(" (") in line


def test_owners() -> None:
    """A sharer wins; a login without @ is shown whole."""
    users = {1: UserProfile(login_name="tagged-devices"), 2: UserProfile(login_name="bob@x")}
    about = status(peer("a", 2), peer("b", 3, alt_sharer_user_id=2), user=users)
    assert [line.split()[2] for line in lines(about, show_self=False)] == ["tagged-devices", "bob@"]


def test_nothing_from_the_network_reaches_the_terminal_raw() -> None:
    """Names, systems, addresses and health are stripped of escapes."""
    evil = "\x1b]0;x\x07\n"
    about = status(
        peer("a", 2, host_name=evil, dns_name=evil, os=evil, tailscale_ips=(evil,), relay=evil,
             cur_addr=evil, active=True),
        user={1: UserProfile(login_name=evil)},
        health=(evil,),
    )  # fmt: skip
    assert all(line.isprintable() for line in lines(about))


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("Stopped", "Tailscale is stopped."),
        ("NeedsLogin", "Logged out.\nLog in at: https://x/"),
        ("NeedsMachineAuth", "Machine is not yet approved by tailnet admin."),
        ("NoState", "tailnetd has just started; ask again in a moment."),
        ("Odd\x1b", "unexpected state: Odd"),
    ],
)
def test_what_is_said_when_not_running(state: str, text: str) -> None:
    """One line, and the URL when there is one."""
    about = Status(backend_state=state, auth_url="https://x/")
    assert describe_state(about) == (text, False)
