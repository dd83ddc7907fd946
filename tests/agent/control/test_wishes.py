"""What a node asks of its server: a TXT record for a certificate."""

import asyncio

import pytest
from integration.lab.control_faults import Honest, refuse
from integration.lab.control_noise import Request
from tests.support.control import config, faulty, member, serving, settings

from tailnet.agent.control.events import Connected
from tailnet.agent.control.wishes import MAX_VALUE, check_set_dns_untrusted
from tailnet.agent.errors import UserError

NAME = "_acme-challenge.one.lab.ts.net"


async def test_a_record_is_published_over_the_connection_that_is_open() -> None:
    """Map, updates, answers and this share one TCP connection."""
    async with (
        serving(settings()) as server,
        member(config(server.origin), "one") as one,
        asyncio.timeout(10),
    ):
        await one.until(Connected)
        sockets = len(one.marked)
        await one.client.set_dns(NAME, "token")
        await server.is_alive(1, noise=True)
        assert server.dns == {NAME: "token"}
        assert len(one.marked) == sockets


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (501, "unimplemented", "this control server does not set DNS records (501)"),
        (404, "not found", "this control server does not set DNS records (404)"),
        (403, "not\x1b yours", "the control server did not set the record: not? yours (403)"),
        (500, "", "the control server did not set the record:  (500)"),
    ],
)
async def test_a_refusal_is_said(status: int, text: str, words: str) -> None:
    """In the server's words."""
    async with faulty(settings()) as server, member(config(server.origin), "one") as one:
        await one.until(Connected)
        server.script["/machine/set-dns"] = [refuse(status, text)]
        with pytest.raises(UserError) as caught:
            await one.client.set_dns(NAME, "token")
        assert str(caught.value) == words


async def test_somebody_elses_name_is_refused() -> None:
    """By the server."""
    async with serving(settings()) as server, member(config(server.origin), "one") as one:
        await one.until(Connected)
        with pytest.raises(UserError, match="belongs to somebody else"):
            await one.client.set_dns("_acme-challenge.two.lab.ts.net", "token")


async def test_a_server_that_goes_away_is_said() -> None:
    """Not a traceback."""
    async with faulty(settings()) as server, member(config(server.origin), "one") as one:
        await one.until(Connected)
        server.script["/machine/set-dns"] = [hang_up]
        with pytest.raises(UserError, match="the control server was not reached: "):
            await one.client.set_dns(NAME, "token")


async def hang_up(request: Request, _: Honest) -> None:
    """Drop the connection instead of an answer."""
    request.writer.transport.abort()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("one.lab.ts.net", "x"),
        (NAME + "\n", "x"),
        ("_acme-challenge." + "a" * 300, "x"),
        (NAME, ""),
        (NAME, "a b"),
        (NAME, "x" * (MAX_VALUE + 1)),
    ],
)
async def test_what_is_no_such_record_is_not_sent(name: str, value: str) -> None:
    """One line says why."""
    async with serving(settings()) as server, member(config(server.origin), "one") as one:
        with pytest.raises(UserError, match="bad record"):
            await one.client.set_dns(name, value)


def test_success_needs_no_body() -> None:
    """Any 200 will do."""
    check_set_dns_untrusted(200, b"")
