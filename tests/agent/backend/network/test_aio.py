"""What follows when the host's network becomes another one: whole nodes, a monitor that we play."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest
from tests.support.nodes import Member, echo_request, running, tailnet

from tailnet.agent.backend.events import NetworkChanged
from tailnet.agent.backend.state import State
from tailnet.platform.interface import NO_DNS, NetworkChange, NetworkInterface, NetworkState

AUTH_KEY = "tskey-auth-lab"
LO = NetworkInterface("lo", True, frozenset({ip_interface("127.0.0.1/8")}))
ETH = NetworkInterface("eth0", True, frozenset({ip_interface("192.0.2.2/24")}))
WLAN = NetworkInterface("wlan0", True, frozenset({ip_interface("198.51.100.2/24")}))
HOME = NetworkState({"lo": LO, "eth0": ETH}, "eth0")
AWAY = NetworkState({"lo": LO, "wlan0": WLAN}, "wlan0")
NOWHERE = NetworkState({"eth0": replace(ETH, up=False)})


@asynccontextmanager
async def pair(directory: Path) -> AsyncIterator[tuple[Member, Member]]:
    """Two nodes that have exchanged packets; the host of the first is at home."""
    one, two = Member("one", directory), Member("two", directory)
    async with tailnet() as url, running(one), running(two):
        one.system.monitor.tell(NetworkChange.FIRST, HOME)
        for member in (one, two):
            wanted = {"ControlURL": url, "WantRunning": True}
            await member.node.account.login(
                {**wanted, **{f"{name}Set": True for name in wanted}}, AUTH_KEY
            )
        for member in (one, two):
            await member.state(State.RUNNING)
            await member.peers(1)
        await cross(one, two)
        yield one, two


async def cross(here: Member, there: Member) -> None:
    """A packet from one kernel to the other."""
    packet = echo_request(here.ip, there.ip, 1)
    await here.send(packet)
    assert await there.receive() == packet


async def becomes(
    member: Member, change: NetworkChange, state: NetworkState, *, slept: float = 0.0
) -> None:
    """Let it happen; everything that depends on the network knows."""
    member.system.monitor.tell(change, state, slept=slept)
    await member.until(
        lambda: any(
            isinstance(e, NetworkChanged) and e.event.change is change and e.event.state is state
            for e in member.events
        )
    )


async def until(condition: Callable[[], bool]) -> None:
    """Of what is told to nobody."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - real sockets; nothing says when
            await asyncio.sleep(0)


def last_handshake(member: Member, other: Member) -> float:
    """With the other node."""
    peer = member.node.peer_at(other.ip)
    assert peer is not None
    return member.node.tunnel.session(peer).last_handshake


async def test_after_a_move_the_session_and_the_port_are_the_same(tmp_path: Path) -> None:
    """New sockets, new paths, no handshake."""
    async with pair(tmp_path) as (one, two):
        port, before = one.node.tunnel.magicsock.local_port, last_handshake(one, two)
        await becomes(one, NetworkChange.MAJOR, AWAY)
        await cross(one, two)
        await cross(two, one)
        assert one.node.tunnel.magicsock.local_port == port
        assert last_handshake(one, two) == before > 0


async def test_after_a_long_sleep_traffic_goes_on(tmp_path: Path) -> None:
    """As far as the network is concerned, waking up is a move to where we were."""
    async with pair(tmp_path) as (one, two):
        await becomes(one, NetworkChange.MAJOR, HOME, slept=3600.0)
        await cross(one, two)
        await cross(two, one)


async def test_after_a_nap_relays_are_asked_whether_they_still_know_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing looks different, but they, or a router, may have forgotten us."""
    async with pair(tmp_path) as (one, two):
        asked: list[object] = []
        monkeypatch.setattr(one.node.tunnel, "check_relays", asked.append)
        await becomes(one, NetworkChange.MINOR, HOME, slept=40.0)
        assert len(asked) == 1
        await becomes(one, NetworkChange.MINOR, replace(HOME))
        assert len(asked) == 1
        await cross(one, two)


async def test_a_move_ends_what_is_connected_from_an_address_that_is_gone(tmp_path: Path) -> None:
    """Control and relay are connected anew; nobody waits for a timeout."""
    async with pair(tmp_path) as (one, two):
        without_lo = replace(AWAY, interfaces={"wlan0": WLAN})
        await becomes(one, NetworkChange.MAJOR, without_lo)
        await until(lambda: not one.node.tunnel.live_relays)
        await until(lambda: bool(one.node.tunnel.live_relays))
        await until(lambda: not one.node.account.control_problem)
        await cross(one, two)


async def test_after_a_move_the_host_is_told_of_names_again(tmp_path: Path) -> None:
    """What brought the host there may have told its resolver otherwise (#2458, #6298)."""
    async with pair(tmp_path) as (one, _):
        dns = one.system.dns
        await until(lambda: dns.config != NO_DNS)
        wanted, told = dns.config, len(dns.history)
        await becomes(one, NetworkChange.MINOR, replace(HOME, default_v6="eth0"))
        await becomes(one, NetworkChange.MAJOR, AWAY)
        await until(lambda: len(dns.history) > told)
        assert dns.history[told:] == [wanted]


async def test_no_network_is_told_and_forgotten_when_there_is_one(tmp_path: Path) -> None:
    """The relay by an address that is gone counts no more; the warning shows after its delay."""
    async with pair(tmp_path) as (one, _):
        facts = one.node.checkup.facts
        assert facts().has_network
        await becomes(one, NetworkChange.MINOR, NOWHERE)
        assert not facts().has_network
        await becomes(one, NetworkChange.MAJOR, HOME)
        assert facts().has_network


async def test_what_is_removed_of_ours_is_put_back(tmp_path: Path) -> None:
    """The same configuration is applied once more."""
    async with pair(tmp_path) as (one, _):
        router = one.system.router
        done, wanted = len(router.history), router.config
        await becomes(one, NetworkChange.TUNNEL, HOME)
        await until(lambda: len(router.history) > done)
        assert router.history[done:] == [wanted]


async def test_a_lan_that_stays_direct_follows_the_host(tmp_path: Path) -> None:
    """With an exit node: around which prefixes routes lead depends on the links there are."""
    async with pair(tmp_path) as (one, _):
        host, applied = one.node.tunnel._host, one.system.router.history
        assert host is not None
        host.routes.want(replace(one.system.router.config, lan_direct=True))
        await until(lambda: applied[-1].lan_direct)
        done = len(applied)
        await becomes(one, NetworkChange.MAJOR, AWAY)
        await until(lambda: len(applied) > done)
