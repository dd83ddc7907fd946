"""What a node asks of its server: a TXT record for a certificate."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from integration.lab.control_faults import Honest, refuse
from integration.lab.control_noise import Request
from tests.support.control import config, faulty, member, serving, settings

from tailnet.agent._version import CAPABILITY_VERSION
from tailnet.agent.control.events import Connected
from tailnet.agent.control.wishes import (
    MAX_VALUE,
    Wish,
    answer_untrusted,
    device_attributes,
    id_token,
    query_feature,
    set_dns,
)
from tailnet.agent.errors import UserError
from tailnet.agent.keys import NodePublic

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
        await one.client.ask(set_dns(NAME, "token"))
        await server.is_alive(1, noise=True)
        assert server.dns == {NAME: "token"}
        assert len(one.marked) == sockets


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (501, "unimplemented", "this control server does not set the record (501)"),
        (404, "not found", "this control server does not set the record (404)"),
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
            await one.client.ask(set_dns(NAME, "token"))
        assert str(caught.value) == words


async def test_somebody_elses_name_is_refused() -> None:
    """By the server."""
    async with serving(settings()) as server, member(config(server.origin), "one") as one:
        await one.until(Connected)
        with pytest.raises(UserError, match="belongs to somebody else"):
            await one.client.ask(set_dns("_acme-challenge.two.lab.ts.net", "token"))


async def test_a_server_that_goes_away_is_said() -> None:
    """Not a traceback."""
    async with faulty(settings()) as server, member(config(server.origin), "one") as one:
        await one.until(Connected)
        server.script["/machine/set-dns"] = [hang_up]
        with pytest.raises(UserError, match="the control server was not reached: "):
            await one.client.ask(set_dns(NAME, "token"))


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
            await one.client.ask(set_dns(name, value))


def test_success_needs_no_body() -> None:
    """Any 200 will do."""
    wish = set_dns(NAME, "token")
    assert answer_untrusted(wish, 200, b"") == answer_untrusted(wish, 204, b"[1") == {}
    assert answer_untrusted(wish, 200, b'{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("wish", "body"),
    [
        (id_token("aud"), {"CapVersion": CAPABILITY_VERSION, "Audience": "aud"}),
        (query_feature("serve"), {"Feature": "serve"}),
        (
            device_attributes({"custom:a": 1, "custom:b": None}),
            {"Version": CAPABILITY_VERSION, "Update": {"custom:a": 1, "custom:b": None}},
        ),
    ],
)
def test_a_wish_says_which_node_has_it(wish: Wish, body: dict[str, object]) -> None:
    """By its key, as upstream's requests do."""
    key = NodePublic(bytes(32))
    assert json.loads(wish.encode(key)) == {**body, "NodeKey": str(key)}


@pytest.mark.parametrize("make", [id_token, query_feature])
def test_an_empty_wish_is_not_sent(make: Callable[[str], Wish]) -> None:
    """Nor one with control characters."""
    for text in ("", "a\nb", "x" * 2000):
        with pytest.raises(UserError, match="bad "):
            make(text)


async def test_a_token_comes_from_the_server_and_the_key_may_end_sooner() -> None:
    """Two wishes over the open connection."""
    async with serving(settings()) as server, member(config(server.origin), "one") as one:
        await one.until(Connected)
        assert await one.client.ask(id_token("aud")) == {"id_token": "lab.aud.one"}
        await one.client.shorten(datetime.now(UTC) + timedelta(hours=1))
