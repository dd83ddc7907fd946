"""The client answers its server beside the map stream, over loopback."""

import asyncio
from collections.abc import Callable

import pytest
from tests.support.control import config, member, serving, settings

from tailnet.agent.addr import IPAddress
from tailnet.agent.control.events import Connected, PopBrowser
from tailnet.agent.tailcfg.mapping import Debug, MapResponse, PingRequest, PingResponse


class Node:
    """Pings take as long as the test says."""

    def __init__(self) -> None:
        self.pings: list[tuple[str, str]] = []
        self.wait: Callable[[], asyncio.Event | None] = lambda: None

    async def ping(self, ip: IPAddress, kind: str) -> PingResponse | None:
        """One after the other; peerapi never answers."""
        self.pings.append((str(ip), kind))
        if (event := self.wait()) is not None:
            await event.wait()
        if kind == "peerapi":
            return None
        return PingResponse(type=kind, ip=str(ip), latency_seconds=0.5)

    def prefs(self) -> bytes:
        """Some."""
        return b'{"CorpDNS":true}'

    def health(self) -> bytes:
        """Well."""
        return b"{}"

    def tasks(self) -> bytes:
        """None."""
        return b""

    async def metrics(self) -> bytes:
        """Of a process with one descriptor."""
        return b"process_open_fds 1\n"

    def netmap_untrusted(self, omit: tuple[str, ...], candidate: bytes | None) -> bytes:
        """None."""
        del omit, candidate
        return b"{}"


@pytest.mark.parametrize("noise", [True, False])
async def test_pings_are_answered_one_by_one(noise: bool) -> None:
    """Each type that is answered is one report, within the connection or outside."""
    node = Node()
    async with (
        serving(settings()) as server,
        member(config(server.origin), answers=node) as one,
        asyncio.timeout(10),
    ):
        await one.until(Connected)
        reports = await server.pings(1, "disco,TSMP", "100.64.0.9", noise=noise)
        assert [r["Type"] for r in reports] == ["disco", "TSMP"]
        assert reports[0] == {"Type": "disco", "IP": "100.64.0.9", "LatencySeconds": 0.5}
        assert node.pings == [("100.64.0.9", "disco"), ("100.64.0.9", "TSMP")]


@pytest.mark.parametrize("noise", [True, False])
async def test_sign_of_life(noise: bool) -> None:
    """``HEAD``, as Headscale asks high-availability routers for."""
    async with serving(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        async with asyncio.timeout(10):
            await server.is_alive(1, noise=noise)


async def test_requests_are_answered_over_the_connection_that_is_open() -> None:
    """While a ping waits, on the same TCP connection, and again for each request."""
    node = Node()
    never = asyncio.Event()
    node.wait = lambda: never
    async with (
        serving(settings()) as server,
        member(config(server.origin), answers=node) as one,
        asyncio.timeout(10),
    ):
        await one.until(Connected)
        sockets = len(one.marked)
        server.push(
            1, MapResponse(ping_request=PingRequest(url="http://x/", types="disco", ip="::1"))
        )
        for _ in range(3):
            reply = await server.c2n(1, b"POST /echo HTTP/1.1\r\nHost: x\r\n\r\nhello")
            assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
            assert reply.endswith(b"\r\n\r\nhello")
        assert (await server.c2n(1, b"GET /debug/prefs HTTP/1.1\r\n\r\n")).endswith(
            b'{"CorpDNS":true}'
        )
        assert (await server.c2n(1, b"nonsense")).startswith(b"HTTP/1.1 400 ")
        assert len(one.marked) == sockets
        assert node.pings == [("::1", "disco")]


async def test_without_a_node_requests_are_declined() -> None:
    """In words."""
    async with serving(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        async with asyncio.timeout(10):
            reply = await server.c2n(1, b"GET /echo HTTP/1.1\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 501 Not Implemented\r\n")


async def test_pages_to_open_reach_the_user_once() -> None:
    """Unless the URL is not safe; then nobody sees it."""
    async with serving(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        for url in ("file:///etc/passwd", "https://a.example/", "https://a.example/"):
            server.push(1, MapResponse(pop_browser_url=url, keep_alive=True))
        server.push(1, MapResponse(pop_browser_url="https://b.example/", keep_alive=True))
        await one.until(PopBrowser, lambda e: e.url == "https://b.example/")
        popped = [e.url for e in one.events if isinstance(e, PopBrowser)]
        assert popped == ["https://a.example/", "https://b.example/"]


async def test_a_pause_holds_the_stream_and_not_the_daemon() -> None:
    """What comes during the pause is read when it is over."""
    async with serving(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        loop = asyncio.get_running_loop()
        began = loop.time()
        server.push(1, MapResponse(domain="one", debug=Debug(sleep_seconds=0.2, exit=3)))
        server.push(1, MapResponse(domain="two"))
        await one.sees(lambda m: m.domain == "one")
        await one.sees(lambda m: m.domain == "two")
        assert loop.time() - began >= 0.2
