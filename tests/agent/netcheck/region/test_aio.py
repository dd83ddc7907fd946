"""What is said of a region: relays, STUN servers and what only looks like them, on loopback."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from itertools import cycle

import pytest
from integration.lab.derp import DerpServer
from integration.lab.tls import make_server_tls
from msgspec.structs import replace
from tests.support.relaysite import (
    LOOPBACK,
    V4,
    Site,
    make_dialer,
    make_netcheck,
    running_site,
)

from tailnet.agent import clock
from tailnet.agent.keys import NodePrivate
from tailnet.agent.netcheck import measurement
from tailnet.agent.netcheck.region.aio import Findings, RegionCheck, find_region
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

ONLY = "it is the only region: without it peers find no way"
OTHER = DERPRegion(region_id=8, region_code="y")


async def checked(derp_map: DERPMap, name: str = "7") -> Findings:
    """By a node with IPv4."""
    check = RegionCheck(make_dialer(), make_netcheck, now=clock.now, random_bytes=os.urandom)
    return await check.run(derp_map, name, V4)


def of(node: DERPNode, **about: object) -> DERPMap:
    """A map of one relay, in one of two regions."""
    region = DERPRegion(region_id=7, region_code="x", nodes=(node,), **about)  # type: ignore[arg-type]
    return DERPMap(regions={7: region, 8: OTHER})


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A relay and a STUN server."""
    async with running_site() as site:
        yield site


async def test_a_good_region_has_nothing_said_against_it(site: Site) -> None:
    """What it does is told, and the address that STUN saw."""
    found = await checked(of(site.node))
    assert (found.warnings, found.errors) == ([], [])
    first, relays, stun = found.info
    assert first == "region 7 is 'x'"
    assert relays == "127.0.0.1 relays over IPv4"
    assert stun.startswith("127.0.0.1 answers STUN over IPv4: we are 127.0.0.1:")


def test_a_region_is_found_by_number_and_code() -> None:
    """A number that was taken back is none."""
    derp_map = DERPMap(regions={7: None, 8: OTHER})
    assert find_region(derp_map, "8") is find_region(derp_map, "y") is OTHER
    assert find_region(derp_map, "7") is None
    assert find_region(DERPMap(), "8") is None


async def test_what_the_map_does_not_have_is_an_error() -> None:
    """No map at all has another remedy."""
    assert (await checked(DERPMap())).errors == [
        "no relays are known: connect this machine first, with: tnet up"
    ]
    found = await checked(DERPMap(regions={8: OTHER}), "nowhere")
    assert found.errors == ["the network map has no region 'nowhere'"]


async def test_what_is_odd_about_a_region_is_told() -> None:
    """It is alone, to be avoided, and empty."""
    lonely = DERPMap(regions={7: DERPRegion(region_id=7, region_code="x", avoid=True)})
    found = await checked(lonely)
    assert found.warnings == [ONLY, "nodes are told to avoid it"]
    assert found.errors == ["it has no relay"]


async def test_a_relay_that_does_not_answer_is_an_error(site: Site) -> None:
    """The rest of it is looked at all the same."""
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        found = await checked(of(replace(site.node, derp_port=free.getsockname()[1])))
    (error,) = found.errors
    assert error.startswith("127.0.0.1 over IPv4: TCP: ")
    assert any("answers STUN" in each for each in found.info)
    assert not any("relays over" in each for each in found.info)


async def test_a_server_for_stun_alone_is_not_asked_to_relay(site: Site) -> None:
    """It is no error that it cannot."""
    found = await checked(of(replace(site.node, stun_only=True, derp_port=1)))
    assert found.errors == []
    assert found.info[1] == "127.0.0.1 only answers STUN; not tried further"
    assert site.stun.answered == 1


async def test_a_silent_stun_server_is_a_warning(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the relay was measured by HTTPS in its place."""
    monkeypatch.setattr(measurement, "STUN_TIMEOUT", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((LOOPBACK, 0))
        found = await checked(of(replace(site.node, stun_port=silent.getsockname()[1])))
    assert found.warnings == ["127.0.0.1 does not answer STUN"]
    assert "127.0.0.1 relays over IPv4" in found.info


async def test_one_name_with_two_keys_is_an_error() -> None:
    """Behind a balancer of load that sends each connection to another relay."""
    tls, pin, _ = make_server_tls([LOOPBACK])
    relays = []
    for _ in range(2):
        key = NodePrivate.from_random(os.urandom(32))
        relays.append(DerpServer(key, now=clock.now, random_bytes=os.urandom))
        await relays[-1].start(LOOPBACK, 0, tls)
    turn = cycle(relays)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()

    async def balance(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(LOOPBACK, next(turn).port)
        await asyncio.gather(copy(reader, forth), copy(back, writer))

    balancer = await asyncio.start_server(balance, LOOPBACK, 0)
    node = DERPNode(
        region_id=7, host_name=LOOPBACK, ipv4=LOOPBACK, ipv6="none", stun_port=-1,
        cert_name=f"sha256-raw:{pin}", derp_port=balancer.sockets[0].getsockname()[1],
    )  # fmt: skip
    found = await checked(of(node))
    balancer.close()
    for relay in relays:
        await relay.stop()
    assert found.errors == [
        "127.0.0.1 has 2 keys: relays behind a load balancer do not find each other's clients"
    ]
