"""The shells on loopback: a real relay and STUN server, and real sockets."""

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from tests.support.relaysite import LOOPBACK, V4, Site, make_netcheck, make_probes, running_site

from tailnet.agent import clock
from tailnet.agent.addr import AddrPort
from tailnet.agent.derp.dial.aio import Dialer
from tailnet.agent.errors import UserError
from tailnet.agent.netcheck import captive
from tailnet.agent.netcheck.measurement import AskOtherwise
from tailnet.agent.netcheck.plan import make_plan
from tailnet.agent.netcheck.probes.aio import Probes
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """One."""
    async with running_site() as site:
        yield site


async def test_netcheck_finds_what_there_is(site: Site) -> None:
    """The address that STUN saw is the one that was sent from."""
    report, home = await make_netcheck().run(site.derp_map, V4)
    assert home == 7
    assert report.udp
    assert [addr.ip for addr in report.seen] == [AddrPort.of(LOOPBACK, 1).ip]
    assert set(report.latency) == {(7, 4)}
    assert report.can_send == {4}
    assert report.hard_nat is None
    assert site.stun.answered == 1


async def test_netcheck_sends_from_where_it_is_told(site: Site) -> None:
    """Address and port; one that is not ours is refused in words."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    report, _ = await make_netcheck().run(site.derp_map, V4, LOOPBACK, port)
    assert report.seen == (AddrPort.of(LOOPBACK, port),)
    for address, words in (("192.0.2.1", "cannot send from 192.0.2.1"), ("x", "not an IP")):
        with pytest.raises(UserError, match=words):
            await make_netcheck().run(site.derp_map, V4, address)


async def test_silent_stun_is_replaced_by_https(site: Site) -> None:
    """The certificate's pin counts there, too."""
    found: list[tuple[int, int, float, bool]] = []
    await make_probes().otherwise(site.derp_map, AskOtherwise([7]), lambda *one: found.append(one))
    assert {(r, v) for r, v, _, icmp in found if not icmp} == {(7, 4)}
    found.clear()
    wrong = site.map_with(cert_name="sha256-raw:" + "0" * 64, ipv6="none")
    await make_probes().otherwise(wrong, AskOtherwise([7]), lambda *one: found.append(one))
    assert [one for one in found if not one[3]] == []


@pytest.mark.parametrize("icmp", [True, False])
async def test_relays_are_pinged_unless_only_https_goes_out(site: Site, icmp: bool) -> None:
    """Beside HTTPS."""
    found: list[tuple[int, int, float, bool]] = []
    wish = AskOtherwise([7], icmp=icmp)
    await make_probes().otherwise(site.derp_map, wish, lambda *one: found.append(one))
    assert {pinged for *_, pinged in found} == {False, icmp}


class SlowDialer(Dialer):
    """Takes a minute for TCP and another one for TLS, by a clock of its own."""

    time = 0.0

    async def connect(self, region: DERPRegion) -> tuple[DERPNode, socket.socket, bytes]:
        """A minute later."""
        self.time += 60.0
        return await super().connect(region)

    async def secure(
        self, sock: socket.socket, node: DERPNode, protocol: asyncio.Protocol
    ) -> asyncio.Transport:
        """A minute later."""
        self.time += 60.0
        return await super().secure(sock, node, protocol)


async def test_the_time_for_tcp_and_tls_is_no_latency(site: Site) -> None:
    """Only that of the request; or a region whose connection is open would always be nearest."""
    dialer = SlowDialer(
        mark=lambda _: None, wall=clock.wall, ca_file=None, plain_http=False, environ={}
    )
    probes = Probes(
        dialer,
        mark=lambda _: None,
        now=lambda: dialer.time,
        wall=clock.wall,
        random_bytes=os.urandom,
    )
    found: list[tuple[int, int, float, bool]] = []
    wish = AskOtherwise([7], icmp=False)
    await probes.otherwise(site.derp_map, wish, lambda *one: found.append(one))
    assert found == [(7, 4, 0.0, False)]
    assert dialer.time == 120.0


async def test_region_without_stun_is_measured_by_https(site: Site) -> None:
    """At once: there is nothing to wait for."""
    derp_map = site.map_with(cert_name=site.node.cert_name, stun_port=-1)
    report, home = await make_netcheck().run(derp_map, V4)
    assert (home, report.udp, set(report.latency)) == (7, False, {(7, 4)})


async def test_map_without_relays_has_no_home() -> None:
    """And is no reason to wait."""
    report, home = await make_netcheck().run(DERPMap(), V4)
    assert (report.asked, home) == (False, 0)


async def test_names_are_resolved_for_the_families_left_open(site: Site) -> None:
    """A name that does not exist leaves its server out."""
    open_map = site.map_with(ipv4="", host_name="localhost")
    plan = make_plan(open_map, V4, None, 0)
    [(key, addr)] = (await make_probes().addresses(plan)).items()
    assert (key[1], addr) == (4, AddrPort.of(LOOPBACK, site.stun.port))
    gone = make_plan(site.map_with(ipv4="", host_name="a..b"), V4, None, 0)
    assert await make_probes().addresses(gone) == {}


Reply = Callable[[bytes], bytes]


@asynccontextmanager
async def web(monkeypatch: pytest.MonkeyPatch, reply: Reply) -> AsyncIterator[DERPMap]:
    """A web server in the place of port 80."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(await reader.readuntil(b"\r\n\r\n")))
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    monkeypatch.setattr(captive, "PORT", server.sockets[0].getsockname()[1])
    node = DERPNode(ipv4=LOOPBACK, can_port80=True)
    async with server:
        yield DERPMap(regions={1: DERPRegion(region_id=1, nodes=(node,))})


@pytest.mark.parametrize(
    ("answer", "portal"),
    [
        (b"HTTP/1.1 204 \r\nX-Tailscale-Response: response ts_127.0.0.1\r\n\r\n", False),
        (b"HTTP/1.1 204 \r\n\r\n", True),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n", True),
        (b"garbage\r\n\r\n", None),
        (b"", None),
    ],
)
async def test_portals_are_told_from_relays(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, portal: bool | None
) -> None:
    """What is no HTTP says nothing."""
    async with web(monkeypatch, lambda _: answer) as derp_map:
        assert await make_probes().portal(derp_map, 0) is portal


async def test_nobody_to_ask_is_no_verdict() -> None:
    """Maps seldom have relays with port 80."""
    assert await make_probes().portal(DERPMap(), 0) is None


async def test_hostile_datagrams_do_not_disturb(site: Site) -> None:
    """Garbage and answers to nothing are passed over."""
    check = make_netcheck()
    counter = itertools.count()
    shaken: Awaitable[tuple[object, int]] = check.run(site.derp_map, V4)
    task = asyncio.get_running_loop().create_task(_as_coroutine(shaken))
    while not task.done():
        check.handle_datagram(bytes(next(counter) % 64))
        await asyncio.sleep(0)
    assert (await task)[1] == 7


async def _as_coroutine(work: Awaitable[tuple[object, int]]) -> tuple[object, int]:
    return await work
