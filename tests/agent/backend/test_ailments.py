"""Every ailment of the table befalls a whole node, and is cured.

The node is the one that runs on a host; its kernel, and what befalls it, are played here.  Delays
are tested in ``test_health.py``: here counts what holds, shown yet or not.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.control import AUTH_KEY
from tests.support.nodes import Member, running, tailnet_server

from tailnet.agent import clock
from tailnet.agent.backend.ailments import conditions
from tailnet.agent.backend.state import State
from tailnet.agent.backend.warnables import TABLE
from tailnet.agent.control.events import Connected, Disconnected, NetmapChanged
from tailnet.agent.control.trouble import Cause
from tailnet.agent.errors import UserError
from tailnet.agent.magicsock.endpoints import Ports
from tailnet.agent.netcheck.report import Report
from tailnet.agent.tailcfg.filter import FilterRule
from tailnet.agent.tailcfg.node import NetInfo, Node
from tailnet.platform.interface import NetworkInterface, NetworkState

Do = Callable[[Member], None]


def pref(**wanted: object) -> Do:
    """A user's wish."""
    masked = {**wanted, **{f"{name}Set": True for name in wanted}}

    def do(one: Member) -> None:
        one.node.account.edit(masked)

    return do


def control(event: Any) -> Do:  # noqa: ANN401 - any of them
    """What the control session says."""
    return lambda one: one.node.account._heard(event)


def told(**changes: object) -> Do:
    """The server sends another map."""

    def do(one: Member) -> None:
        assert one.node.netmap is not None
        netmap = replace(one.node.netmap, exits=None, **changes)  # type: ignore[arg-type]
        one.node.account._heard(NetmapChanged(netmap, True, frozenset(), frozenset()))

    return do


def own(**changes: object) -> Do:
    """The server says something else of this node."""

    def do(one: Member) -> None:
        assert one.node.netmap is not None
        told(self_node=msgspec.structs.replace(one.node.netmap.self_node, **changes))(one)

    return do


def routers(offer: str) -> Do:
    """A peer appears that offers a route."""

    def do(one: Member) -> None:
        assert one.node.netmap is not None
        peer: Node = msgspec.structs.replace(
            one.node.netmap.self_node,
            id=99,
            key=type(one.node.netmap.self_node.key)(os.urandom(32)),
            allowed_ips=("100.64.9.9/32", offer),
        )
        told(peers={peer.id: peer})(one)

    return do


def tunnel(name: str, value: object) -> Do:
    """What the tunnel's parts report."""

    def do(one: Member) -> None:
        getattr(one.node.tunnel, name)(value)

    return do


def server_ahead(seconds: float) -> Do:
    """So says its map."""

    def do(one: Member) -> None:
        one.node.checkup._calendar.note(clock.wall() + timedelta(seconds=seconds))
        one.node.checkup.look()

    return do


def put(path: str, value: object) -> Do:
    """A part is in another state."""

    def do(one: Member) -> None:
        *parents, last = path.split(".")
        owner: Any = one.node
        for name in parents:
            owner = getattr(owner, name)
        setattr(owner, last, value)

    return do


def docker(*, present: bool) -> Do:
    """Its bridge comes or goes, where forwarded packets are filtered."""

    def do(one: Member) -> None:
        one.node.account.edit({"NoStatefulFiltering": False, "NoStatefulFilteringSet": True})
        bridge = {"docker0": NetworkInterface("docker0", up=True)} if present else {}
        one.node.network.state = NetworkState(bridge)

    return do


def both(*parts: Do) -> Do:
    """One after the other."""

    def do(one: Member) -> None:
        for part in parts:
            part(one)

    return do


def cannot_forward(one: Member) -> None:
    """The kernel does not."""
    one.system.forwarding = "sysctl -w x"


def filter_strictly(one: Member) -> None:
    """The kernel does."""
    one.system.strict = True


def names(failing: str, *, looping: bool) -> Do:
    """What the resolver finds out."""
    return lambda one: one.node.naming.resolver._say_health(failing, looping=looping)


def no_room(one: Member) -> None:
    """The state cannot be written."""
    path = one.node._store.path
    assert path is not None
    (path.parent / f".{path.name}.tmp").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        pref(Hostname="other")(one)


def room(one: Member) -> None:
    """It can."""
    path = one.node._store.path
    assert path is not None
    (path.parent / f".{path.name}.tmp").rmdir()
    pref(Hostname="other")(one)


NONSENSE = FilterRule(src_ips=("*",), src_bits=(8,))
HOME = NetInfo(preferred_derp=900)
AILMENTS: Mapping[str, tuple[Do, Do]] = {
    "state-store-health": (no_room, room),
    "apply-disk-config": (put("_ruling.problem", "bad"), put("_ruling.problem", "")),
    "warming-up": (
        both(put("state", State.STARTING), put("checkup._began", float("inf"))),
        both(put("state", State.RUNNING), put("checkup._began", 0.0)),
    ),
    "wantrunning-false": (pref(WantRunning=False), pref(WantRunning=True)),
    "login-state": (put("state", State.NEEDS_LOGIN), put("state", State.RUNNING)),
    "network-status": (
        both(tunnel("_own_endpoints", ()), tunnel("_relays_live", frozenset())),
        tunnel("_relays_live", frozenset({900})),
    ),
    "captive-portal-detected": (
        put("tunnel._sock._measuring.report", Report({}, (), None, True, portal=True)),
        put("tunnel._sock._measuring.report", None),
    ),
    "using-kept-network-map": (
        put("_kept._keeper.since", clock.wall() - timedelta(hours=3)),
        put("_kept._keeper.since", None),
    ),
    "not-in-map-poll": (control(Disconnected("hung up", 1.0)), control(Connected())),
    "mapresponse-timeout": (
        control(Disconnected("silent", 1.0, Cause.SILENCE)),
        control(Connected()),
    ),
    "tls-connection-failed": (
        control(Disconnected("bad certificate", 1.0, Cause.TLS)),
        control(Connected()),
    ),
    "no-derp-home": (
        tunnel("_own_net_info", NetInfo()),
        tunnel("_own_net_info", HOME),
    ),
    "no-derp-connection": (
        tunnel("_relays_live", frozenset()),
        tunnel("_relays_live", frozenset({900})),
    ),
    "derp-timed-out": (put("tunnel._derp._silent", {900}), put("tunnel._derp._silent", set())),
    "derp-region-error": (
        put("tunnel._derp._health", {900: "too many"}),
        put("tunnel._derp._health", {}),
    ),
    "no-udp4-bind": (
        put("tunnel._sock._sockets.ports", Ports(0, 41641)),
        put("tunnel._sock._sockets.ports", Ports(41641, 41641)),
    ),
    "udp-port-taken": (
        put("tunnel._sock._sockets.wanted", 5),
        put("tunnel._sock._sockets.wanted", 0),
    ),
    "ip-forwarding-off": (
        both(cannot_forward, pref(AdvertiseRoutes=["192.0.2.0/24"])),
        pref(AdvertiseRoutes=None),
    ),
    "nosnat-with-advertised-exit-node": (
        pref(AdvertiseRoutes=["0.0.0.0/0", "::/0"], NoSNAT=True),
        pref(NoSNAT=False, AdvertiseRoutes=None),
    ),
    "invalid-packet-filter": (told(packet_filter=(NONSENSE,)), told(packet_filter=())),
    "router": (
        put("tunnel._host.routes._refused", "table 52 is taken"),
        put("tunnel._host.routes._refused", ""),
    ),
    "firewall": (
        put("tunnel._host.rules._refused", "no nftables"),
        put("tunnel._host.rules._refused", ""),
    ),
    "strict-reverse-path-filter": (
        both(filter_strictly, pref(ExitNodeIP="100.64.0.77", NetfilterMode=1)),
        pref(ExitNodeIP="", NetfilterMode=2),
    ),
    "foreign-routing-rules": (
        put("tunnel._host._router.obstacle", "rule 5208 comes first"),
        put("tunnel._host._router.obstacle", ""),
    ),
    "docker-stateful-filtering": (docker(present=True), docker(present=False)),
    "foreign-firewall": (
        put("tunnel._host._firewall.obstacle", "firewalld runs"),
        put("tunnel._host._firewall.obstacle", ""),
    ),
    "dns-read-os-config-failed": (put("naming.unreadable", "gone"), put("naming.unreadable", "")),
    "dns-set-os-config-failed": (put("naming.refused", "no"), put("naming.refused", "")),
    "resolv-conf-overwritten": (put("naming.overwritten", "x"), put("naming.overwritten", "")),
    "dns-forward-failing": (names("192.0.2.1", looping=False), names("", looping=False)),
    "dns-loop": (names("", looping=True), names("", looping=False)),
    "exit-node-missing": (pref(ExitNodeIP="100.64.0.77"), pref(ExitNodeIP="")),
    "peer-relay-port": (
        put("tunnel.peer_relay.problem", "UDP port 7000 is taken"),
        put("tunnel.peer_relay.problem", ""),
    ),
    "clock-wrong": (server_ahead(90_000.0), server_ahead(0.0)),
    "key-expires-soon": (
        own(key_expiry=clock.wall() + timedelta(hours=3)),
        own(key_expiry=None),
    ),
    "accept-routes-off": (routers("192.0.2.0/24"), told(peers={})),
}


def test_no_ailment_is_missing() -> None:
    """The table is all there is."""
    assert AILMENTS.keys() == {what.code for what in TABLE}


async def test_each_ailment_befalls_a_node_and_is_cured(tmp_path: Path) -> None:
    """One after the other, on one node, which is well at the beginning and in the end."""
    one = Member("one", tmp_path)

    def holding() -> set[str]:
        return {what.code for what in conditions(one.node.checkup.facts())}

    async with tailnet_server() as server, running(one):
        masked = {"ControlURL": server.origin, "ControlURLSet": True}
        await one.node.account.login(masked, AUTH_KEY)
        await one.state(State.RUNNING)
        await one.until(lambda: "no-derp-home" not in holding())
        put("checkup._began", 0.0)(one)
        for code, (befall, cure) in AILMENTS.items():
            assert code not in holding(), code
            befall(one)
            assert code in holding(), code
            cure(one)
            await one.until(lambda c=code: c not in holding())  # type: ignore[misc]
