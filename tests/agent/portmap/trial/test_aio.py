"""A router asked for a port beside the daemon's, in a network of the test's own."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from tests.support.gateway import GATEWAY, NETWORK, OUTSIDE, OWN, Gateway
from tests.support.platform_netns import ip, private_network
from tests.support.reached import PATIENCE, reached

from tailnet.agent import clock
from tailnet.agent.addr import AddrPort
from tailnet.agent.portmap.aio import PortMapper
from tailnet.agent.portmap.interface import Network, Portmap, Protocol
from tailnet.agent.portmap.mapper import ALL
from tailnet.agent.portmap.trial.aio import MAX_LINES, PortmapTrial
from tailnet.platform.interface import Gateway as WayOut

NAT_PMP = frozenset({Protocol.PMP})


class Nowhere:
    """``Gateways`` of a host without a way out."""

    async def gateway(self) -> WayOut | None:
        """None."""
        return None


class Mapper(PortMapper):
    """The daemon's."""

    def __init__(self) -> None:
        super().__init__(
            Nowhere(),
            mark=lambda _: None,
            now=clock.now,
            random_bytes=os.urandom,
            on_change=lambda _: None,
        )


def begin(
    seconds: float, mapper: PortMapper | None = None, protocols: frozenset[Protocol] = NAT_PMP
) -> PortmapTrial:
    """At the gateway that the test has."""
    return PortmapTrial(
        mapper or Mapper(), seconds, protocols=protocols, network=NETWORK, now=clock.now
    )


async def everything(trial: PortmapTrial) -> list[str]:
    """All lines, without their times."""
    text = b""
    async with asyncio.timeout(PATIENCE):
        while more := await trial.read():
            text += more
    return [line.partition(" s  ")[2] for line in text.decode().splitlines()]


@pytest.fixture
def network() -> Iterator[None]:
    """This machine and its gateway are one."""
    with private_network():
        ip("link", "set", "lo", "up", "multicast", "on")
        for address in (GATEWAY, OWN):
            ip("address", "add", f"{address}/32", "dev", "lo")
        yield


@pytest.fixture
async def gateway(network: None) -> AsyncIterator[Gateway]:
    """Speaks NAT-PMP over a real socket."""
    gateway = Gateway(NAT_PMP)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((str(GATEWAY), 5351))
    at = AddrPort.of(str(GATEWAY), 5351)

    def answer() -> None:
        data, source = sock.recvfrom(2048)
        for _, said in gateway.udp(at, data, clock.now()):
            sock.sendto(said, source)

    loop = asyncio.get_running_loop()
    loop.add_reader(sock, answer)
    yield gateway
    loop.remove_reader(sock)
    sock.close()


async def test_the_port_is_told_and_given_back(gateway: Gateway) -> None:
    """It ends with the port, not with the time; what was not asked is not said to be missing."""
    lines = await everything(begin(2 * PATIENCE))
    assert lines[0] == f"gateway {GATEWAY}, own address {OWN}"
    assert [line for line in lines if line.startswith(f"mapped to {OUTSIDE}:")]
    assert {"NAT-PMP: yes", "UPnP: not asked", "PCP: not asked"} <= set(lines)
    await reached(lambda: not gateway.mappings)
    assert gateway.heard[-1] == "pmp delete"


async def test_who_hangs_up_ends_it_and_leaves_no_port_behind(gateway: Gateway) -> None:
    """In the middle of asking."""
    trial = begin(2 * PATIENCE)
    await reached(lambda: bool(gateway.heard))
    trial.close()
    assert (await everything(trial))[0].startswith("gateway ")
    await reached(lambda: not gateway.mappings)


async def test_a_silent_router_ends_with_the_time(network: None) -> None:
    """And with the word that there is no port."""
    lines = await everything(begin(0.05))
    assert lines[-1] == "no mapping"
    assert not [line for line in lines if line.startswith("mapped to")]


async def test_a_router_of_no_private_network_is_not_asked() -> None:
    """Somebody else's would be."""
    abroad = Network(OUTSIDE, OWN)
    trial = PortmapTrial(Mapper(), 0.05, protocols=ALL, network=abroad, now=clock.now)
    lines = await everything(trial)
    assert any(str(OUTSIDE) in line for line in lines)
    assert lines[-1] == "no mapping"


class Talkative(Mapper):
    """Has much to say."""

    def trial(
        self,
        protocols: frozenset[Protocol],
        network: Network | None,
        on_change: Callable[[Portmap], None],
        trace: Callable[[str], None],
    ) -> PortMapper:
        """All at once."""
        for number in range(MAX_LINES * 2):
            trace(f"{number}")
        return super().trial(protocols, network, on_change, trace)


async def test_a_slow_reader_misses_the_oldest_lines() -> None:
    """Memory is bounded."""
    first = (await begin(0.01, Talkative()).read()).decode().splitlines()
    assert len(first) == MAX_LINES
    assert first[0].endswith(f" {MAX_LINES}")


class Broken(Mapper):
    """Gives what cannot be begun."""

    def trial(
        self,
        protocols: frozenset[Protocol],
        network: Network | None,
        on_change: Callable[[Portmap], None],
        trace: Callable[[str], None],
    ) -> PortMapper:
        """No descriptor is left."""

        class Unable(Mapper):
            def start(self) -> None:
                raise OSError(24, "Too many open files")

        return Unable()


async def test_a_trial_that_cannot_begin_says_so_and_ends() -> None:
    """Its reader does not wait for ever."""
    assert await everything(begin(2 * PATIENCE, Broken())) == ["Too many open files"]
