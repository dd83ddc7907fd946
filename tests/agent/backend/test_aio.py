"""Whole nodes: login, packets, restart, logout; two of them in one process."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from tests.support.control import AUTH_KEY
from tests.support.nodes import Member, echo_request, running, tailnet, tailnet_server

from tailnet.agent import clock
from tailnet.agent.backend.events import HealthChanged, LoginRefused, StateChanged
from tailnet.agent.backend.files.aio import ConfigFile, StateMemory
from tailnet.agent.backend.state import State
from tailnet.agent.backend.tunnel.interface import TunnelSettings
from tailnet.agent.errors import UserError
from tailnet.agent.magicsock.peers import Policy
from tailnet.platform.interface import PlatformError


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A control server with a relay."""
    async with tailnet() as origin:
        yield origin


def prefs(url: str, **more: object) -> dict[str, object]:
    """A masked edit."""
    wanted: dict[str, object] = {"ControlURL": url, **more}
    return {**wanted, **{f"{name}Set": True for name in wanted}}


def maps(directory: Path) -> list[Path]:
    """The network maps of "one" on disk."""
    return list(directory.glob("one.*.netmap"))


async def test_a_packet_crosses_from_node_to_node(url: str, tmp_path: Path) -> None:
    """Nothing is shared but the servers: both nodes live in this process."""
    one, two = Member("one", tmp_path), Member("two", tmp_path)
    async with running(one), running(two):
        for member in (one, two):
            assert member.node.state is State.NEEDS_LOGIN
            await member.node.account.login(prefs(url), AUTH_KEY)
        for member in (one, two):
            await member.state(State.RUNNING)
            await member.peers(1)
        packet = echo_request(one.ip, two.ip, 7)
        await one.send(packet)
        assert await two.receive() == packet
        assert one.node.peer_at(two.ip) is not None


async def test_the_router_gets_addresses_and_routes(url: str, tmp_path: Path) -> None:
    """And loses them on the way down."""
    one, two = Member("one", tmp_path), Member("two", tmp_path)
    async with running(one), running(two):
        for member in (one, two):
            await member.node.account.login(prefs(url), AUTH_KEY)
            await member.state(State.RUNNING)
        router = one.system.router
        await one.until(lambda: ip_network(two.ip) in router.config.routes)
        assert ip_address(one.ip) in {a.ip for a in router.config.local_addrs}
        one.node.account.edit({"WantRunning": False, "WantRunningSet": True})
        assert one.node.state is State.STOPPED
        assert one.node.plan is None
    assert not router.is_up


async def test_a_restart_keeps_key_and_address(url: str, tmp_path: Path) -> None:
    """The state file is all that is needed; no auth key."""
    first = Member("one", tmp_path)
    async with running(first):
        await first.node.account.login(prefs(url), AUTH_KEY)
        await first.state(State.RUNNING)
        key, ip = first.node.public_key, first.ip
    again = Member("one", tmp_path)
    async with running(again):
        await again.state(State.RUNNING)
        assert (again.node.public_key, again.ip) == (key, ip)


async def test_a_node_whose_clock_went_back_while_it_was_off_is_let_in(
    url: str, tmp_path: Path
) -> None:
    """By a peer that has forgotten their session, but not the latest date that it was told."""
    one = Member("one", tmp_path)
    async with running(one):
        first = Member("two", tmp_path)
        async with running(first):
            for member in (one, first):
                await member.node.account.login(prefs(url), AUTH_KEY)
            for member in (one, first):
                await member.peers(1)
                await member.state(State.RUNNING)
            await first.send(echo_request(first.ip, one.ip, 1))
            await one.receive()
            key, peer = first.node.tunnel.magicsock.disco_key, one.node.peer_at(first.ip)
            assert peer is not None
        engine = one.node.tunnel._engine
        engine._forget(engine._peers[peer])  # as after nine minutes
        late = Member("two", tmp_path, wall=lambda: clock.wall() - timedelta(minutes=5))
        async with running(late):
            await late.state(State.RUNNING)
            await late.peers(1)
            await one.until(lambda: one.node.tunnel._tables.peers[peer].info.disco_key != key)
            packet = echo_request(late.ip, one.ip, 2)
            await late.send(packet)
            assert await one.receive() == packet


async def test_logout_forgets_the_key(url: str, tmp_path: Path) -> None:
    """The next login is a new node."""
    one = Member("one", tmp_path)
    async with running(one):
        await one.node.account.login(prefs(url), AUTH_KEY)
        await one.state(State.RUNNING)
        key = one.node.public_key
        await one.node.account.logout()
        assert one.node.state is State.NEEDS_LOGIN
        assert not one.node.tunnel.live_relays
        assert not one.node.account.registered
        assert one.node.public_key != key
    assert key.removeprefix("nodekey:") not in (tmp_path / "one.state").read_text()


async def test_the_servers_refusal_reaches_the_watchers(url: str, tmp_path: Path) -> None:
    """In its own words, and in the health list."""
    one = Member("one", tmp_path)
    async with running(one):
        await one.node.account.login(prefs(url), "tskey-wrong")
        await one.until(lambda: any(isinstance(e, LoginRefused) for e in one.events))
        (refused, *_) = [e for e in one.events if isinstance(e, LoginRefused)]
        assert "invalid auth key" in refused.message
        assert refused.message in [warning.text for warning in one.node.warnings]
        assert one.node.state is not State.RUNNING


async def test_an_auth_key_in_the_environment_logs_in(url: str, tmp_path: Path) -> None:
    """``TS_AUTHKEY`` works for a node that has prefs but no login."""
    first = Member("one", tmp_path)
    async with running(first):
        first.node.account.edit(prefs(url))
    again = Member("one", tmp_path, auth_key=AUTH_KEY)
    async with running(again):
        await again.state(State.RUNNING)


async def test_refused_prefs_change_nothing(url: str, tmp_path: Path) -> None:
    """One line says why."""
    one = Member("one", tmp_path)
    async with running(one):
        before = one.node.account.prefs
        with pytest.raises(UserError, match=r"10\.0\.0\.0/8"):
            one.node.account.edit(prefs(url, AdvertiseRoutes=["10.0.0.1/8"]))
        assert one.node.account.prefs is before


async def test_a_router_that_refuses_is_a_health_problem(url: str, tmp_path: Path) -> None:
    """The node runs all the same; somebody else may own the routes."""
    one = Member("one", tmp_path)
    async with running(one):
        one.system.router.fail_next = PlatformError("table 52 is taken")
        await one.node.account.login(prefs(url), AUTH_KEY)
        await one.state(State.RUNNING)
        assert any(
            isinstance(e, HealthChanged) and ("table 52 is taken" in [w.text for w in e.warnings])
            for e in one.events
        )


async def test_a_subnet_router_without_forwarding_is_told(url: str, tmp_path: Path) -> None:
    """While it offers routes and the kernel does not forward; either ends the warning."""
    one = Member("one", tmp_path)

    def codes() -> set[str]:
        return {w.what.code for w in one.node.warnings}

    async with running(one):
        one.system.forwarding = "sysctl -w x"
        await one.node.account.login(prefs(url), AUTH_KEY)
        await one.state(State.RUNNING)
        assert "ip-forwarding-off" not in codes()
        routes = {"AdvertiseRoutes": ["192.0.2.0/24"], "AdvertiseRoutesSet": True}
        one.node.account.edit(routes)
        await one.until(lambda: "ip-forwarding-off" in codes())
        one.node.account.edit({"AdvertiseRoutes": None, "AdvertiseRoutesSet": True})
        await one.until(lambda: "ip-forwarding-off" not in codes())


async def test_states_follow_each_other_in_order(url: str, tmp_path: Path) -> None:
    """Login to Running, down to Stopped, up to Running."""
    one = Member("one", tmp_path)
    async with running(one):
        await one.node.account.login(prefs(url), AUTH_KEY)
        await one.state(State.RUNNING)
        one.node.account.edit({"WantRunning": False, "WantRunningSet": True})
        await one.state(State.STOPPED)
        one.node.account.edit({"WantRunning": True, "WantRunningSet": True})
        await one.state(State.RUNNING)
        seen = [e.state for e in one.events if isinstance(e, StateChanged)]
    assert seen == [
        State.NEEDS_LOGIN,
        State.STARTING,
        State.RUNNING,
        State.STOPPED,
        State.STARTING,
        State.RUNNING,
    ]


# --- without the control server


async def test_peers_are_reached_before_control_answers(tmp_path: Path) -> None:
    """Both nodes start anew, with new disco keys, while the server is away."""
    async with tailnet_server() as server:
        url = server.origin
        one, two = Member("one", tmp_path), Member("two", tmp_path)
        async with running(one), running(two):
            for member in (one, two):
                await member.node.account.login(prefs(url), AUTH_KEY)
            for member in (one, two):
                await member.state(State.RUNNING)
                await member.peers(1)
        await server.stop()
        again, there = Member("one", tmp_path), Member("two", tmp_path)
        async with running(again), running(there):
            for member in (again, there):
                await member.state(State.RUNNING)
                assert any("using a network map from" in w.text for w in member.node.warnings)
            packet = echo_request(again.ip, there.ip, 7)
            await again.send(packet)
            assert await there.receive() == packet


async def test_logout_removes_the_kept_map(url: str, tmp_path: Path) -> None:
    """Nothing of the tailnet stays on disk."""
    one = Member("one", tmp_path)
    async with running(one):
        await one.node.account.login(prefs(url), AUTH_KEY)
        await one.state(State.RUNNING)
    assert len(maps(tmp_path)) == 1
    again = Member("one", tmp_path)
    async with running(again):
        await again.state(State.RUNNING)
        await again.node.account.logout()
    assert maps(tmp_path) == []


async def test_keeping_can_be_turned_off(url: str, tmp_path: Path) -> None:
    """By a setting of the daemon."""
    one = Member("one", tmp_path, keep_map=False)
    async with running(one):
        await one.node.account.login(prefs(url), AUTH_KEY)
        await one.state(State.RUNNING)
    assert maps(tmp_path) == []


# --- the configuration file, and no state


async def test_a_configuration_file_brings_a_node_up(url: str, tmp_path: Path) -> None:
    """Alone; and while it rules nobody else does."""
    config = ConfigText(tmp_path / "c.json")
    config.write(ServerURL=url, AuthKey=AUTH_KEY, Hostname="from-file")
    one = Member("one", tmp_path, config=config.spec)
    async with running(one):
        await one.state(State.RUNNING)
        assert one.node.account.prefs.hostname == "from-file"
        with pytest.raises(UserError, match="locked"):
            one.node.account.edit({"Hostname": "x", "HostnameSet": True})
        with pytest.raises(UserError, match="locked"):
            await one.node.account.login(prefs(url), AUTH_KEY)


async def test_a_configuration_file_is_read_again(url: str, tmp_path: Path) -> None:
    """A wrong one is a warning and changes nothing; the next right one clears it."""
    config = ConfigText(tmp_path / "c.json")
    config.write(ServerURL=url, AuthKey=AUTH_KEY)
    one = Member("one", tmp_path, config=config.spec)
    async with running(one):
        await one.state(State.RUNNING)
        config.write(ServerURL=url, Nonsense=1)
        with pytest.raises(UserError, match="Nonsense"):
            await one.node.reload_config()
        assert "apply-disk-config" in {w.what.code for w in one.node.warnings}
        config.write(ServerURL=url, Locked=False, Hostname="new-name")
        assert await one.node.reload_config()
        assert one.node.account.prefs.hostname == "new-name"
        assert "apply-disk-config" not in {w.what.code for w in one.node.warnings}
        one.node.account.edit({"Hostname": "x", "HostnameSet": True})
        config.write(ServerURL=url, Enabled=False)
        one.node.hang_up()
        await one.state(State.STOPPED)


async def test_a_wrong_configuration_file_is_no_start(tmp_path: Path) -> None:
    """Rather than a start with other settings."""
    config = ConfigText(tmp_path / "c.json")
    config.write(Nonsense=1)
    with pytest.raises(UserError, match="Nonsense"):
        Member("one", tmp_path, config=config.spec)


async def test_without_a_configuration_file_there_is_nothing_to_reload(tmp_path: Path) -> None:
    """And nothing is locked."""
    async with running(Member("one", tmp_path)) as one:
        assert not await one.node.reload_config()


async def test_a_node_without_state_leaves_the_tailnet_when_it_ends(tmp_path: Path) -> None:
    """Nothing is on disk, and the server forgets it."""
    async with tailnet_server() as server:
        one = Member("one", tmp_path, store=StateMemory())
        async with running(one):
            await one.node.account.login(prefs(server.origin), AUTH_KEY)
            await one.state(State.RUNNING)
            (known,) = server.nodes()
            assert known["ephemeral"]
        assert os.listdir(tmp_path) == []
        assert server.nodes() == []


class ConfigText:
    """A configuration file that changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.spec = ConfigFile(str(path))

    def write(self, **fields: object) -> None:
        """New content."""
        self._path.write_text(json.dumps({"Version": "alpha0", **fields}))


async def test_what_control_switches_on_is_done_at_once_and_undone(tmp_path: Path) -> None:
    """Node attributes, on a node that runs: another port, one route, relays alone, whole maps."""
    names = ("randomize-client-port", "one-cgnat?v=true", "only-tcp-443", "disable-delta-updates")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        chosen = probe.getsockname()[1]
    async with tailnet_server() as server:
        one, two = Member("one", tmp_path), Member("two", tmp_path)
        tunnel, router = one.node.tunnel, one.system.router
        tunnel._settings = TunnelSettings(port=chosen)
        async with running(one), running(two):
            for member in (one, two):
                await member.node.account.login(prefs(server.origin), AUTH_KEY)
                await member.state(State.RUNNING)
            await one.peers(1)
            assert tunnel.magicsock.local_port == chosen
            (own,) = [int(str(n["id"])) for n in server.nodes() if n["name"] == "one"]
            everything, single = ip_network("100.64.0.0/10"), ip_network(two.ip)
            for told in (names, ()):
                server.set_attributes(own, told)
                gone, there = (single, everything) if told else (everything, single)
                async with asyncio.timeout(10):
                    while gone in (routes := router.config.routes) or there not in routes:  # noqa: ASYNC110
                        await asyncio.sleep(0)
                assert one.node.plan is not None
                (peer,) = one.node.plan.peers.values()
                assert peer.info.policy is (Policy.RELAY_ONLY if told else Policy.AUTO)
                assert (tunnel.magicsock.local_port != chosen) is bool(told)
            await one.send(packet := echo_request(one.ip, two.ip, 9))
            assert await two.receive() == packet
