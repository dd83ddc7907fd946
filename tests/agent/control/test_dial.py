"""Ways to the server: proxies, dial plans, names without DNS; over loopback."""

import asyncio
import base64
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

import pytest
from tests.support.control import config, make_certificate, member, new_server, serving, settings

from tailnet.agent import clock
from tailnet.agent._version import CAPABILITY_VERSION
from tailnet.agent.control.dial import aio as dial
from tailnet.agent.control.dial.aio import Dialer
from tailnet.agent.control.dialplan import (
    Candidate,
    ServerURL,
    ace_attempts,
    candidate_attempts,
    dial_timeout,
    parse_candidates,
    parse_server_url,
)
from tailnet.agent.control.events import Connected, LoginFailed
from tailnet.agent.control.race.aio import race
from tailnet.agent.control.reach import aio as reach
from tailnet.agent.control.resolve.aio import Resolver
from tailnet.agent.control.trouble import Cause
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import UserError
from tailnet.agent.keys import MachinePrivate
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion
from tailnet.agent.tailcfg.mapping import ControlDialPlan, MapResponse

LOGIN = base64.b64encode(b"user:pass").decode()


@dataclass
class FakeProxy:
    """An HTTP proxy: CONNECT, and plain requests with a whole URL.  Every name is loopback."""

    login: str = ""
    port: int = 0
    asked: list[str] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        self.asked.append(f"{method} {target}")
        if self.login and f"Proxy-Authorization: Basic {self.login}\r\n" not in head:
            writer.write(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n")
            await writer.drain()
            return
        where = target if method == "CONNECT" else target.split("/")[2]
        port = int(where.rpartition(":")[2])
        if port == 80:
            writer.write(b"HTTP/1.1 403 No\r\n\r\n")
            await writer.drain()
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            path = "/" + target.split("/", 3)[3]
            up_writer.write(head.replace(target, path, 1).encode())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, up_writer))
                group.create_task(_copy(up_reader, writer))
        except* OSError:
            pass
        finally:
            up_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError


@asynccontextmanager
async def proxying(login: str = "") -> AsyncIterator[FakeProxy]:
    """A proxy that runs."""
    proxy = FakeProxy(login)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()


async def test_a_plain_server_through_a_proxy() -> None:
    """The key by a request with its whole URL, the upgrade through a tunnel."""
    async with serving(settings()) as server, proxying() as proxy:
        url = f"http://control.test:{server.port}"
        environ = {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}"}
        async with member(replace(config(url), environ=environ)) as one:
            await one.until(Connected)
        assert proxy.asked[0] == f"GET {url}/key?v={CAPABILITY_VERSION}"
        assert f"CONNECT control.test:{server.port}" in proxy.asked


async def test_a_tls_server_through_a_proxy_with_a_password(tmp_path: Path) -> None:
    """The certificate is still checked, end to end."""
    ca, leaf, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(leaf, key)
    server = new_server(settings())
    await server.start("127.0.0.1", 0, context)
    try:
        async with proxying(LOGIN) as proxy:
            # A name, since loopback addresses are never proxied; the certificate has another one.
            url = f"https://control.test:{server.port}"
            proxy_url = f"http://user:pass@127.0.0.1:{proxy.port}"
            environ = {"HTTPS_PROXY": proxy_url, "HTTP_PROXY": proxy_url}
            mine = replace(config(url), environ=environ, ca_file=str(ca))
            async with member(mine) as one:
                failed = await one.until(LoginFailed)
                assert failed.message.startswith(f"the certificate of {url} is not trusted: ")
                assert failed.cause is Cause.TLS
            dialer = new_dialer(parse_server_url(url), environ)
            connection = await dialer.connect(
                MachinePrivate.from_random(os.urandom(32)), public_of(server.settings.server_key)
            )
            await connection.aclose()
            assert set(proxy.asked) == {
                f"CONNECT control.test:{server.port}",
                "CONNECT control.test:80",
            }
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("login", "environ", "words"),
    [
        (LOGIN, "http://127.0.0.1:{}", "wants a user name and a password"),
        ("", "http://127.0.0.1:1", "the proxy http://127.0.0.1:1: Connection refused"),
        ("", "socks5://127.0.0.1:1", "HTTPS_PROXY is not the URL of an HTTP proxy"),
    ],
)
async def test_a_proxy_that_does_not_work_is_named(login: str, environ: str, words: str) -> None:
    """In the error of the login."""
    async with proxying(login) as proxy:
        variables = {"HTTPS_PROXY": environ.format(proxy.port)}
        async with member(replace(config("https://control.test:1"), environ=variables)) as one:
            assert words in (await one.until(LoginFailed)).message


def new_dialer(url: ServerURL, environ: dict[str, str], ca: str | None = None) -> Dialer:
    """One with real clocks."""
    return Dialer(
        url,
        ca_file=ca,
        environ=environ,
        mark=lambda _: None,
        now=clock.now,
        wall=clock.wall,
        random_bytes=os.urandom,
    )


@pytest.mark.filterwarnings("error::ResourceWarning")
async def test_a_mistake_of_ours_is_no_bad_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where everything is caught to close a socket, it goes on: nobody dials again for ever."""

    def mistake(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError

    async with serving(settings()) as server:
        url = parse_server_url(server.origin)
        dialer = new_dialer(url, {})
        key = await dialer.fetch_key()
        with monkeypatch.context() as patch:  # reach: a socket to an address
            patch.setattr(dialer._reach, "_mark", mistake)
            with pytest.raises(ExceptionGroup) as caught:
                await dialer.fetch_key()
            assert caught.group_contains(ZeroDivisionError)
        with monkeypatch.context() as patch:  # dial: the upgrade of a stream
            patch.setattr(dial, "_handshake", mistake)
            with pytest.raises(ExceptionGroup) as caught:
                await dialer.connect(MachinePrivate.from_random(os.urandom(32)), key)
            assert caught.group_contains(ZeroDivisionError)
    async with proxying("") as proxy:  # reach: a tunnel through a proxy
        variables = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}
        dialer = new_dialer(parse_server_url("https://control.test:1"), variables)
        monkeypatch.setattr(reach, "connect_request", mistake)
        with pytest.raises(ZeroDivisionError):
            await dialer.fetch_key()
    async with relay(tmp_path, {}) as derp_map:  # resolve: a relay that knows names
        dialer = new_dialer(parse_server_url("http://control.invalid:1"), {})
        dialer.know_relays(derp_map)
        monkeypatch.setattr(dialer._resolver._relays, "secure", mistake)
        with pytest.raises(ExceptionGroup) as caught:
            await dialer.fetch_key()
        assert caught.group_contains(ZeroDivisionError)


async def test_a_host_that_relays_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ACE: TLS to that host, CONNECT to port 80 of the server, and the upgrade in the clear."""
    ca, leaf, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(leaf, key)
    asked: list[str] = []
    async with serving(settings()) as server:

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0])
            there = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_copy(reader, there[1]))
                    group.create_task(_copy(there[0], writer))
            except* OSError:
                pass
            finally:
                writer.transport.abort()
                there[1].transport.abort()

        relaying = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
        port = relaying.sockets[0].getsockname()[1]
        monkeypatch.setattr("tailnet.agent.control.dialplan.ACE_PORT", port)
        keys = MachinePrivate.from_random(os.urandom(32)), public_of(server.settings.server_key)
        url = parse_server_url("https://control.invalid")
        ace = Candidate(None, "127.0.0.1", 0.0, 5.0)
        trusting = new_dialer(url, {}, str(ca))
        trusting.plan = (ace,)
        connection = await trusting.connect(*keys)
        assert connection.usable
        await connection.aclose()
        assert asked == ["CONNECT control.invalid:80 HTTP/1.1"]
        careful = new_dialer(url, {})
        careful.plan = (ace,)
        with pytest.raises(UserError):
            await careful.connect(*keys)
        assert len(asked) == 1  # its certificate is not trusted
        relaying.close()


@pytest.mark.parametrize("switch", ["", "0"])
async def test_the_plan_is_tried_before_dns(switch: str) -> None:
    """A name that does not exist, an address that does, and one that does not answer."""
    async with serving(settings()) as server:
        url = parse_server_url(f"http://control.invalid:{server.port}")
        dialer = new_dialer(url, {"TS_USE_CONTROL_DIAL_PLAN": switch})
        dialer.plan = (
            Candidate(ip_address("127.0.0.1"), "", 0.05, 5.0),
            Candidate(ip_address("127.0.0.2"), "", 0.0, 0.5),
        )
        keys = MachinePrivate.from_random(os.urandom(32)), public_of(server.settings.server_key)
        if switch:
            with pytest.raises(UserError, match="cannot connect to"):
                await dialer.connect(*keys)
        else:
            connection = await dialer.connect(*keys)
            assert connection.usable
            await connection.aclose()


async def test_a_plan_out_of_date_is_no_harm() -> None:
    """All candidates fail: the URL is right."""
    async with serving(settings()) as server:
        dialer = new_dialer(parse_server_url(server.origin), {})
        dialer.plan = (Candidate(ip_address("127.0.0.2"), "", 0.0, 0.2),)
        connection = await dialer.connect(
            MachinePrivate.from_random(os.urandom(32)), public_of(server.settings.server_key)
        )
        await connection.aclose()


async def test_a_server_with_another_key_is_refused() -> None:
    """In words: the handshake does not complete."""
    async with serving(settings()) as server:
        dialer = new_dialer(parse_server_url(server.origin), {})
        wrong = public_of(MachinePrivate.from_random(os.urandom(32)))
        with pytest.raises(UserError, match="during the handshake"):
            await dialer.connect(MachinePrivate.from_random(os.urandom(32)), wrong)


async def test_the_servers_plan_reaches_the_dialer() -> None:
    """Also with a keep-alive; an empty one ends it."""
    async with serving(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        for candidates in (({"IP": "127.0.0.1", "DialTimeoutSec": 3},), ()):
            plan = ControlDialPlan(candidates=candidates)
            server.push(1, MapResponse(control_dial_plan=plan, keep_alive=True, seq=1))
            mark = f"d{len(candidates)}"
            server.push(1, MapResponse(domain=mark))
            await one.sees(lambda m, mark=mark: m.domain == mark)  # type: ignore[misc]
            assert len(one.client._dialer.plan) == len(candidates)


def test_candidates_are_parsed_with_care() -> None:
    """Nonsense is left out, times are bounded."""
    raw: list[dict[str, object]] = [
        {"IP": "1.2.3.4", "DialStartDelaySec": 0.5, "DialTimeoutSec": 7, "Priority": 3},
        {"ACEHost": "ace.example", "DialTimeoutSec": -1},
        {"IP": "odd"},
        {"IP": "1.2.3.5", "DialTimeoutSec": "x", "DialStartDelaySec": 1e9},
        {},
    ]
    one, two, three = parse_candidates(raw)
    assert one == Candidate(ip_address("1.2.3.4"), "", 0.5, 7.0)
    assert two == Candidate(None, "ace.example", 0.0, 0.0)
    assert (three.delay, three.timeout) == (60.0, 0.0)
    assert dial_timeout(()) == 10.0
    assert dial_timeout((one,)) == 12.5
    assert dial_timeout((three,)) == 60.0
    url = parse_server_url("https://c.example:8443")
    assert [
        (a.port, a.tls, a.host, str(a.ip)) for a in candidate_attempts(url, one, force_tls=False)
    ] == [
        (80, False, "c.example", "1.2.3.4"),
        (8443, True, "c.example", "1.2.3.4"),
    ]
    relay, beyond = ace_attempts(url, two)
    assert (relay.host, relay.port, relay.tls) == ("ace.example", 443, True)
    assert (beyond.host, beyond.port, beyond.tls) == ("c.example", 80, False)


@asynccontextmanager
async def relay(tmp_path: Path, answer: dict[str, list[str]]) -> AsyncIterator[DERPMap]:
    """A relay that knows names, under TLS with a pinned certificate."""
    _, leaf, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(leaf, key)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"GET /bootstrap-dns?q=control.invalid HTTP/1.1\r\n")
        body = json.dumps(answer).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    node = DERPNode(
        host_name="relay.test", ipv4="127.0.0.1", derp_port=port, insecure_for_tests=True
    )
    try:
        yield DERPMap(regions={1: DERPRegion(region_id=1, nodes=(node,))})
    finally:
        server.close()


async def test_a_relay_resolves_the_servers_name(tmp_path: Path) -> None:
    """DNS knows nothing of it, a relay of an earlier map does."""
    async with (
        serving(settings()) as server,
        relay(tmp_path, {"control.invalid": ["127.0.0.1"]}) as derp_map,
    ):
        url = f"http://control.invalid:{server.port}"
        async with member(replace(config(url), derp_map=derp_map)) as one:
            await one.until(Connected)


async def test_without_any_help_the_error_is_that_of_dns(tmp_path: Path) -> None:
    """Not one about relays."""
    async with relay(tmp_path, {}) as derp_map:
        mine = replace(config("http://control.invalid:1"), derp_map=derp_map)
        async with member(mine) as one:
            message = (await one.until(LoginFailed)).message
            assert message.startswith("cannot reach http://control.invalid:1: ")


async def test_families_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that does not answer costs 0.3 s, not the login."""
    loop = asyncio.get_running_loop()
    real = loop.sock_connect
    tried: list[str] = []

    async def names(host: str, port: object, **_: object) -> list[object]:
        found = [(socket.AF_INET6, 1, 6, "", ("2001:db8::1", 0))] if host == "c.test" else []
        return [*found, (socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]

    async def connect(sock: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address[0])
        if address[0] == "2001:db8::1":
            await asyncio.Event().wait()  # a black hole
        await real(sock, address)

    async with serving(settings()) as server:
        monkeypatch.setattr(loop, "getaddrinfo", names)
        monkeypatch.setattr(loop, "sock_connect", connect)
        async with member(config(f"http://c.test:{server.port}")) as one:
            await one.until(Connected)
    assert tried[:2] == ["2001:db8::1", "127.0.0.1"]


async def test_last_good_addresses_outlive_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was known once stays known."""
    now = 0.0
    resolver = Resolver(
        ca_file=None,
        mark=lambda _: None,
        now=lambda: now,
        wall=clock.wall,
        random_bytes=os.urandom,
        environ={},
    )
    loop = asyncio.get_running_loop()
    asked = []

    async def works(host: str, port: object, **_: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, 1, 6, "", ("1.2.3.4", 0))]

    async def fails(host: str, port: object, **_: object) -> list[object]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(loop, "getaddrinfo", works)
    address = (ip_address("1.2.3.4"),)
    assert await resolver.resolve("c.example") == address
    assert await resolver.resolve("c.example") == address
    assert asked == ["c.example"]
    monkeypatch.setattr(loop, "getaddrinfo", fails)
    now = 3600.0
    assert await resolver.resolve("c.example") == address
    assert asked == ["c.example"] * 2
    with pytest.raises(OSError, match="Temporary failure"):
        await resolver.resolve("other.example")


async def test_a_race_has_one_winner_and_discards_the_rest() -> None:
    """The first that works, whatever the order; all errors if none does."""
    order: list[str] = []

    async def fail() -> str:
        order.append("fail")
        msg = "no"
        raise OSError(msg)

    async def slow() -> str:
        order.append("slow")
        await asyncio.Event().wait()
        return "slow"

    async def good() -> str:
        order.append("good")
        return "good"

    found = await race([(0.0, fail), (60.0, slow), (0.01, good)], discard=order.append)
    assert found == "good"
    assert order[:2] == ["fail", "slow"]
    with pytest.raises(OSError, match="no; no"):
        await race([(0.0, fail), (9.0, fail)], discard=order.append)
