"""Relays that are tried for a moment, on loopback: real ones, bad ones, none."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.reached import reached
from tests.support.relaysite import LOOPBACK, Site, make_dialer, running_site

from tailnet.agent import clock
from tailnet.agent.derp.trial import aio as trial
from tailnet.agent.derp.trial.aio import greet
from tailnet.agent.keys import NodePublic
from tailnet.agent.tailcfg.derpmap import DERPNode

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def tried(node: DERPNode, version: int = 4, *, plain_http: bool = False) -> NodePublic:
    """The relay's key."""
    dialer = make_dialer(plain_http=plain_http)
    return await greet(dialer, node, version, now=clock.now, random_bytes=os.urandom)


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[DERPNode]:
    """What only looks like a relay, without TLS."""

    async def until_it_leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        writer.close()

    running = await asyncio.start_server(until_it_leaves, LOOPBACK, 0)
    port = running.sockets[0].getsockname()[1]
    yield DERPNode(region_id=7, host_name=LOOPBACK, ipv4=LOOPBACK, ipv6="none", derp_port=port)
    running.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A real one."""
    async with running_site() as site:
        yield site


async def test_a_relay_tells_its_key_and_is_left_again(site: Site) -> None:
    """Nobody knows the key under which it was greeted, and no connection stays."""
    assert await tried(site.node) == site.relay.public
    assert await tried(site.node) == site.relay.public
    await reached(lambda: not site.relay.connections)


async def test_only_the_version_that_was_asked_for_is_tried(site: Site) -> None:
    """Whatever else the relay has."""
    both = replace(site.node, ipv6="::1")
    assert await tried(both, 4) == site.relay.public
    with pytest.raises(OSError, match=r"^TCP: "):
        await tried(both, 6)


async def test_nobody_there_is_a_matter_of_tcp() -> None:
    """With the system's words."""
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
        node = DERPNode(host_name=LOOPBACK, ipv4=LOOPBACK, ipv6="none", derp_port=port)
        with pytest.raises(OSError, match=r"^TCP: .*refused"):
            await tried(node)


async def test_another_certificate_is_a_matter_of_tls(site: Site) -> None:
    """The relay is not spoken to."""
    for name in ("sha256-raw:" + "0" * 64, ""):  # a pin, and what the system trusts
        with pytest.raises(OSError, match=r"^TLS: .*certificate"):
            await tried(replace(site.node, cert_name=name))


async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A web server."""
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Something else altogether."""
    writer.write(b"220 mail.example ESMTP\r\n" * 9)


async def leave(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Say nothing."""


@pytest.mark.parametrize("serve", [refuse, babble, leave])
async def test_another_server_is_a_matter_of_derp(serve: Serve) -> None:
    """Its words, or that it went; and asyncio has nothing to complain of."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, about: complaints.append(about))
    async with server(serve) as node:
        with pytest.raises(OSError, match=r"^(DERP|TLS): .+"):
            await tried(node, plain_http=True)
    assert complaints == []


async def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that a connection may take."""
    monkeypatch.setattr(trial, "CONNECT_TIMEOUT", 0.05)
    silent = asyncio.Event()

    async def wait(*_: object) -> None:
        await silent.wait()

    async with server(wait) as node:
        with pytest.raises(OSError, match=r"^DERP: timed out$"):
            await tried(node, plain_http=True)
        silent.set()
