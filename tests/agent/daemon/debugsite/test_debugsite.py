"""``tailnetd --debug``: what it shows, and to whom."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.fake_backend import FakeMetrics

from tailnet.agent.addr import AddrPort
from tailnet.agent.daemon.debugsite.aio import DebugSite
from tailnet.agent.daemon.debugsite.pages import (
    PAGES,
    parse_debug_address,
    parse_seconds,
    refuses_host,
)
from tailnet.agent.errors import BadPacket, UserError


class Site(DebugSite):
    """On a free port of loopback, of a node whose health the test decides."""

    well = True

    def __init__(self) -> None:
        super().__init__(
            AddrPort.parse("127.0.0.1:0"),
            version="1.2.3",
            metrics=FakeMetrics(),
            health=lambda: (self.well, "Running\n" if self.well else "Starting\nno relay\n"),
        )

    async def ask(self, target: str, *, method: str = "GET", host: str = "") -> tuple[int, str]:
        """Status and body."""
        assert self.address is not None
        host = host or str(self.address)
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.address.port)
            head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            answer = (await reader.read()).decode()
            writer.close()
        return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Serving."""
    site = Site()
    await site.start()
    yield site
    await site.close()


async def test_every_page_that_the_index_names_is_there(site: Site) -> None:
    """And says something."""
    status, text = await site.ask("/")
    assert (status, "tailnetd 1.2.3" in text) == (200, True)
    for page in PAGES:
        assert f'href="{page}"' in text
        status, said = await site.ask(page.replace("seconds=10", "seconds=0.01"))
        assert (status, bool(said)) == (200, True), page
    assert "tailscaled_health_messages 0" in (await site.ask("/metrics"))[1]
    assert "process_open_fds 7" in (await site.ask("/debug/metrics"))[1]
    assert "test_every_page" in (await site.ask("/debug/tasks"))[1]
    assert "function calls" in (await site.ask("/debug/profile?seconds=0.01"))[1]


async def test_a_task_is_shown_down_to_where_it_waits(site: Site) -> None:
    """Not only where it began."""

    async def inner() -> None:
        await asyncio.Event().wait()

    async def outer() -> None:
        await inner()

    waiting = asyncio.create_task(outer(), name="an example")
    text = (await site.ask("/debug/tasks"))[1].partition("task an example:\n")[2]
    lines = text.partition("\ntask ")[0].splitlines()
    assert [line.rpartition(".")[2] for line in lines[:3]] == ["outer", "inner", "wait"]
    waiting.cancel()


async def test_health_is_a_status(site: Site) -> None:
    """For whoever restarts what is ill."""
    assert await site.ask("/healthz") == (200, "Running\n")
    site.well = False
    assert await site.ask("/healthz") == (503, "Starting\nno relay\n")


async def test_one_profile_at_a_time_and_not_for_long(site: Site) -> None:
    """It costs."""
    both = await asyncio.gather(*(site.ask("/debug/profile?seconds=0.3") for _ in "ab"))
    assert sorted(status for status, _ in both) == [200, 409]
    for text in ("0", "-1", "61", "nan", "x", "1e9"):
        assert (await site.ask(f"/debug/profile?seconds={text}"))[0] == 400, text


async def test_web_pages_cannot_make_their_name_point_here(site: Site) -> None:
    """DNS rebinding: the browser sends the page's name."""
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[", "a b"):
        assert (await site.ask("/metrics", host=host))[0] in (400, 403), host
    for host in ("localhost", "localhost:80", "127.0.0.1", "[::1]:80", "192.0.2.1:9"):
        assert not refuses_host(host), host


async def test_nothing_is_changed_and_nothing_else_is_there(site: Site) -> None:
    """Reading only."""
    assert (await site.ask("/metrics", method="POST"))[0] == 405
    assert (await site.ask("/localapi/v0/status"))[0] == 404
    assert await site.ask("/metrics", method="HEAD") == (200, "")


async def test_a_taken_address_is_said(site: Site) -> None:
    """With what to do."""
    other = DebugSite(site.address, version="", metrics=FakeMetrics(), health=lambda: (True, ""))
    with pytest.raises(UserError, match=r"^--debug: cannot listen on .*: Address already in use"):
        await other.start()
    await other.close()


def test_without_an_address_it_is_on_loopback() -> None:
    """Upstream's is everywhere then."""
    for text in (":8080", "8080", "localhost:8080", "127.0.0.1:8080"):
        assert str(parse_debug_address(text)) == "127.0.0.1:8080"
    assert str(parse_debug_address("[::1]:1")) == "[::1]:1"
    for text in ("", "x:1", ":", "1.2.3.4", ":99999"):
        with pytest.raises(BadPacket):
            parse_debug_address(text)
    assert parse_seconds("") == 10
