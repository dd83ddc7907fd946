"""The status of whole nodes, as the LocalAPI shows it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from immutables import Map
from msgspec import UNSET, structs
from tests.support.control import AUTH_KEY
from tests.support.nodes import Member, echo_request, running, tailnet_server

from tailnet.agent.backend.state import State
from tailnet.agent.control.events import NetmapChanged
from tailnet.agent.localapi.view.status.aio import StatusView

EXIT = ("0.0.0.0/0", "::/0")


def view(member: Member) -> StatusView:
    """Of a node with a device."""
    return StatusView(member.node, version="1.2.3", userspace=False)


async def test_a_node_without_a_login_has_a_status(tmp_path: Path) -> None:
    """A name, and no peers, addresses or tailnet."""
    one = Member("one", tmp_path)
    async with running(one):
        shown = await view(one).read(peers=True)
    assert (shown.version, shown.tun, shown.backend_state) == ("1.2.3", True, "NeedsLogin")
    assert (shown.have_node_key, shown.tailscale_ips, shown.current_tailnet) == (UNSET, None, None)
    assert (shown.peer, shown.user, shown.exit_node_status) == ({}, None, UNSET)
    assert shown.self_ is not None
    assert (shown.self_.host_name, shown.self_.os) == ("one", "linux")


async def test_two_nodes_that_talk_show_each_other(tmp_path: Path) -> None:
    """Names, addresses, path, bytes and times; another peer that is silent has none of these."""
    one, two, mute = (Member(name, tmp_path) for name in ("one", "two", "mute"))
    before = datetime.now(UTC)
    async with tailnet_server() as server, running(one), running(two), running(mute):
        for member in (one, two, mute):
            masked = {"ControlURL": server.origin, "ControlURLSet": True}
            await member.node.account.login(masked, AUTH_KEY)
            await member.state(State.RUNNING)
        for member in (one, two, mute):
            await member.peers(2)
        await one.send(echo_request(one.ip, two.ip, 1))
        await two.receive()
        shown = await view(one).read(peers=True)
        bare = await view(one).read(peers=False)
        far = await view(two).read(peers=True)
        key, silent = two.node.public_key, mute.node.public_key
        own, ips = one.node.public_key, (str(one.ip), str(two.ip))

    assert (shown.backend_state, shown.have_node_key) == ("Running", True)
    assert bare.peer is None
    assert shown.self_ is not None
    assert shown.self_.public_key == own
    assert (shown.self_.dns_name, shown.self_.tailscale_ips) == (
        "one.lab.ts.net.",
        shown.tailscale_ips,
    )
    assert (shown.self_.relay, shown.self_.online, shown.self_.os) == ("lab", True, "linux")
    assert (shown.magic_dns_suffix, shown.tailscale_ips[0] if shown.tailscale_ips else "") == (
        "lab.ts.net", ips[0],
    )  # fmt: skip
    assert shown.current_tailnet is not None
    assert shown.current_tailnet.magic_dns_suffix == "lab.ts.net"
    assert shown.datapath is not UNSET
    assert shown.datapath.name == "reference"
    assert shown.peer is not None
    assert set(shown.peer) == {key, silent}
    peer = shown.peer[key]
    assert (peer.host_name, peer.dns_name, peer.public_key) == ("two", "two.lab.ts.net.", key)
    assert (peer.tailscale_ips or ("",))[0] == ips[1]
    assert (peer.relay, peer.online, peer.exit_node, peer.exit_node_option) == (
        "lab", True, False, False,
    )  # fmt: skip
    assert peer.tx_bytes > 0
    assert (peer.active, peer.in_engine, peer.in_magic_sock, peer.in_network_map) == (True,) * 4
    assert peer.last_write >= before.replace(microsecond=0)
    assert peer.last_handshake >= before.replace(microsecond=0)
    assert shown.user is not None
    assert peer.user_id in shown.user
    other = shown.peer[silent]
    assert (other.tx_bytes, other.rx_bytes, other.active, other.in_engine) == (0, 0, False, False)
    assert other.last_handshake.year == 1
    assert far.peer is not None
    assert far.peer[own].rx_bytes > 0


async def test_an_exit_node_in_use_is_marked(tmp_path: Path) -> None:
    """At the peer and at the top; one that only offers is no exit node in use."""
    one, two = Member("one", tmp_path), Member("two", tmp_path)
    async with tailnet_server() as server, running(one), running(two):
        for member in (one, two):
            masked = {"ControlURL": server.origin, "ControlURLSet": True}
            await member.node.account.login(masked, AUTH_KEY)
            await member.state(State.RUNNING)
        await one.peers(1)
        netmap = one.node.netmap
        assert netmap is not None
        (peer,) = netmap.peers.values()
        offering = structs.replace(
            peer, allowed_ips=(*(peer.allowed_ips or peer.addresses or ()), *EXIT)
        )
        told = replace(netmap, exits=None, peers=Map({peer.id: offering}))
        one.node.account._heard(NetmapChanged(told, True, frozenset(), frozenset()))
        await one.until(lambda: one.node.netmap is told)
        (offered,) = ((await view(one).read(peers=True)).peer or {}).values()
        one.node.account.edit({"ExitNodeID": peer.stable_id, "ExitNodeIDSet": True})
        await one.until(lambda: one.node.plan is not None and one.node.plan.exit_node == peer.id)
        shown = await view(one).read(peers=True)
    assert (offered.exit_node, offered.exit_node_option) == (False, True)
    (used,) = (shown.peer or {}).values()
    assert (used.exit_node, used.exit_node_option) == (True, True)
    assert shown.exit_node_status
    assert shown.exit_node_status.id == peer.stable_id
    assert shown.exit_node_status.tailscale_ips == peer.addresses
    assert shown.exit_node_status.online
