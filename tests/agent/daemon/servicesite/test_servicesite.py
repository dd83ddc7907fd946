"""The site at 100.100.100.100: for this machine alone, and nothing but metrics."""

import asyncio
import contextlib
import socket
from ipaddress import IPv4Address

import pytest
from tests.support.fake_backend import FakeMetrics

from tailnet.agent.addr import AddrPort
from tailnet.agent.daemon.servicesite.aio import MAX_CLIENTS, ServiceSite

ME = IPv4Address("100.64.0.1")
OTHER = IPv4Address("192.168.7.7")


async def visit(site: ServiceSite, request: str, ip: IPv4Address = ME) -> tuple[int, str]:
    """Status and body; 0 if nobody answers."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    head = f"{request} HTTP/1.1\r\nHost: 100.100.100.100\r\nConnection: close\r\n\r\n"
    theirs.send(head.encode())
    theirs.setblocking(False)
    await site.take(ours, AddrPort(ip, 40_000))
    answer = b""
    with theirs, contextlib.suppress(ConnectionResetError):  # what was sent is not read
        async with asyncio.timeout(10):
            while data := await asyncio.get_running_loop().sock_recv(theirs, 65536):
                answer += data
    return int((answer.split() or [b"", b"0"])[1]), answer.partition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET /", 200),
        ("GET /metrics", 200),
        ("POST /metrics", 405),
        ("GET /localapi/v0/status", 404),
        ("GET /../metrics", 404),
    ],
)
async def test_only_metrics_are_served(request_: str, status: int) -> None:
    """And a page that says so."""
    site = ServiceSite(FakeMetrics(), lambda: (ME,))
    assert (await visit(site, request_))[0] == status
    await site.close()


async def test_a_visitor_with_another_address_gets_nothing() -> None:
    """Whoever this machine routes for; and nobody before there is an address."""
    site = ServiceSite(FakeMetrics(), lambda: (ME,))
    assert await visit(site, "GET /metrics", OTHER) == (0, "")
    assert "tailscaled_health_messages" in (await visit(site, "GET /metrics"))[1]
    await site.close()
    lonely = ServiceSite(FakeMetrics(), tuple)
    assert await visit(lonely, "GET /metrics") == (0, "")


async def test_visitors_are_bounded() -> None:
    """The next is told to come again."""
    site = ServiceSite(FakeMetrics(), lambda: (ME,))
    idle = []
    for _ in range(MAX_CLIENTS):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        await site.take(ours, AddrPort(ME, 1))
        idle.append(theirs)
    assert (await visit(site, "GET /metrics"))[0] == 503
    for each in idle:
        each.close()
    await site.close()
