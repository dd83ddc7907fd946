"""The client against the lab's control server, over loopback."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.control import (
    config,
    hostinfo,
    make_certificate,
    member,
    new_server,
    serving,
    settings,
)

from tailnet.agent import clock
from tailnet.agent.addr import AddrPort
from tailnet.agent.control.events import (
    AuthURL,
    Connected,
    Disconnected,
    LoginFailed,
    NetmapChanged,
    Registered,
)
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.keys import NodePrivate


async def test_two_nodes_meet() -> None:
    """Both register, see each other, and get the parts of the map."""
    async with serving(settings()) as server, member(config(server.origin), "one", 1001) as one:
        registered = await one.until(Registered)
        assert registered.login_name == "lab@example.com"
        await one.until(Connected)
        async with member(config(server.origin), "two", 1002) as two:
            seen = await one.sees(lambda m: any(p.endpoints for p in m.peers.values()))
            (peer,) = seen.peers.values()
            assert peer.name == "two.lab.ts.net."
            assert peer.endpoint_addrs() == (AddrPort.parse("127.0.0.1:1002"),)
            theirs = await two.sees(lambda m: len(m.peers) == 1)
            assert theirs.derp_map.region(900) is not None
            assert theirs.packet_filter
            assert theirs.domain == "lab.ts.net"
            assert theirs.dns.proxied
            assert theirs.self_node.key == public_of((await two.until(Registered)).node_key)
            assert theirs.user_profiles[theirs.self_node.user].login_name == "lab@example.com"
        assert one.marked


async def test_changes_arrive_as_deltas() -> None:
    """Endpoints and home by patch, then offline, then removal."""
    async with serving(settings()) as server, member(config(server.origin), "one") as one:
        await one.until(Connected)
        async with member(config(server.origin), "two") as two:
            await one.sees(lambda m: any(p.online for p in m.peers.values()))
            two.client.update(hostinfo("two", home=900), ((AddrPort.parse("127.0.0.9:9"), 2),))
            seen = await one.sees(lambda m: any(p.home_derp == 900 for p in m.peers.values()))
            (peer,) = seen.peers.values()
            assert peer.endpoints == ("127.0.0.9:9",)
        await one.sees(lambda m: any(p.online is False for p in m.peers.values()))
        server.delete(peer.id)
        event = await one.until(NetmapChanged, lambda e: peer.id in e.removed)
        assert not event.netmap.peers
        assert [e.full for e in one.events if isinstance(e, NetmapChanged)].count(True) == 1


async def test_filter_change_arrives() -> None:
    """An empty filter replaces the one before."""
    async with serving(settings()) as server, member(config(server.origin)) as one:
        await one.sees(lambda m: bool(m.packet_filter))
        server.set_packet_filter(())
        await one.sees(lambda m: m.packet_filter == ())


async def test_update_during_the_stream_is_sent_and_the_newest_wins() -> None:
    """Many updates in a row end with the last one at the server."""
    async with serving(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        for port in range(1, 50):
            one.client.update(hostinfo("box"), ((AddrPort.parse(f"127.0.0.1:{port}"), 1),))
        await one.sees(lambda m: m.self_node.endpoints == ("127.0.0.1:49",))


async def test_server_restart_is_survived() -> None:
    """After a restart with its state the same node comes back, with the same key."""
    of = settings()
    first = new_server(of)
    await first.start("127.0.0.1", 0)
    async with member(config(first.origin)) as one:
        registered = await one.until(Registered)
        await one.until(Connected)
        saved = first.snapshot()
        await first.stop()
        await one.until(Disconnected)
        second = new_server(of)
        second.restore(saved)
        await second.start("127.0.0.1", first.port)
        try:
            await one.until(
                NetmapChanged, lambda e: e.full and one.events.index(e) > _last_drop(one.events)
            )
            assert [n["key"] for n in second.nodes()] == [str(public_of(registered.node_key))]
            assert sum(isinstance(e, Registered) for e in one.events) == 1
        finally:
            await second.stop()


def _last_drop(events: Sequence[object]) -> int:
    return max(i for i, e in enumerate(events) if isinstance(e, Disconnected))


async def test_a_deleted_node_does_not_come_back_by_itself() -> None:
    """Not with an auth key that is good for many either: a person is asked."""
    async with serving(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        server.delete(1)
        asked = await one.until(AuthURL)
        assert server.nodes() == []
        assert await server.approve(asked.url.rpartition("/")[2])
        await one.sees(lambda m: m.self_node.id == 2)
        assert sum(isinstance(e, Registered) for e in one.events) == 2


async def test_wrong_auth_key_is_shown() -> None:
    """The server's words reach the user, who is not told that the client goes on trying."""
    async with serving(settings()) as server, member(config(server.origin, "tskey-no")) as one:
        failed = await one.until(LoginFailed)
        assert failed == LoginFailed("invalid auth key", retry_in=None, final=True)


async def test_one_shot_key_is_good_for_one_machine() -> None:
    """And for that machine again."""
    async with serving(settings()) as server:
        mine = config(server.origin, "once")
        async with member(mine) as one:
            await one.until(Connected)
        async with member(mine) as one:
            await one.until(Connected)
        async with member(config(server.origin, "once")) as other:
            failed = await other.until(LoginFailed)
            assert (failed.message, failed.final) == ("authkey already used", True)


async def test_expired_key_is_replaced() -> None:
    """The server says the key has expired: a fresh one takes over the same record."""
    of = settings()
    async with serving(of) as server:
        old = NodePrivate.from_random(os.urandom(32))
        mine = replace(config(server.origin), node_key=old)
        async with member(mine) as one:
            await one.until(Connected)
        server.expire_key(1)
        async with member(mine) as one:
            registered = await one.until(Registered)
            assert registered.old_node_key == old
            assert registered.node_key != old
            await one.until(Connected)
        assert [n["id"] for n in server.nodes()] == [1]


async def test_expiry_reaches_the_node_itself() -> None:
    """On the open stream, as a mark on self."""
    async with serving(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        server.expire_key(1)
        await one.sees(lambda m: m.self_node.expired)


async def test_interactive_login_waits_for_the_browser() -> None:
    """Without an auth key: a URL, and once it was opened, success."""
    async with serving(settings()) as server, member(config(server.origin, "")) as one:
        url = (await one.until(AuthURL)).url
        assert url.startswith(f"{server.origin}/login/")
        assert await server.approve(url.rpartition("/")[2])
        await one.until(Connected)


async def test_poke_reconnects_at_once() -> None:
    """A changed link costs one new stream, not a wait."""
    async with serving(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        one.client.poke()
        dropped = await one.until(Disconnected)
        assert dropped.retry_in == 0
        await one.until(
            NetmapChanged, lambda e: e.full and one.events.index(e) > one.events.index(dropped)
        )


async def test_https_with_a_private_ca(tmp_path: Path) -> None:
    """``/key`` needs the CA file; without it the error names the certificate."""
    ca, leaf, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(leaf, key)
    server = new_server(settings())
    await server.start("127.0.0.1", 0, context)
    try:
        async with member(replace(config(server.origin), ca_file=str(ca))) as one:
            await one.until(Connected)
        async with member(config(server.origin)) as one:
            message = (await one.until(LoginFailed)).message
            assert message.startswith(f"the certificate of {server.origin} is not trusted: ")
    finally:
        await server.stop()


async def test_a_certificate_out_of_time_may_be_a_wrong_clock(tmp_path: Path) -> None:
    """So the date is said; most often it is the machine's own that is wrong."""
    ca, leaf, key = make_certificate(tmp_path, days=-1)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(leaf, key)
    server = new_server(settings())
    await server.start("127.0.0.1", 0, context)
    try:
        async with member(replace(config(server.origin), ca_file=str(ca))) as one:
            message = (await one.until(LoginFailed)).message
            assert message == (
                f"the certificate of {server.origin} is not trusted: certificate has expired; "
                f"the clock of this machine says {clock.wall():%Y-%m-%d}, is that right?"
            )
    finally:
        await server.stop()


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """A server that says the same to everybody."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1 << 16)
            writer.write(answer)
            await writer.drain()
        except OSError:
            return
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "GET /key answered 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "bad JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n{", "its answer was cut off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "it does not speak HTTP"),
        (b"", "it closed the connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b"x" * 999999, "too long"),
    ],
)
async def test_a_server_that_is_no_control_server_is_named(answer: bytes, words: str) -> None:
    """One clear line, and another attempt later."""
    async with answering(answer) as url, member(config(url)) as one:
        message = (await one.until(LoginFailed)).message
        assert message.startswith(f"{url} is not a control server: ")
        assert words in message
        assert "\n" not in message


async def test_old_server_is_named() -> None:
    """Keys without a Noise key."""
    body = b'{"legacyPublicKey":"mkey:' + b"0" * 64 + b'"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with answering(answer) as url, member(config(url)) as one:
        assert "is too old" in (await one.until(LoginFailed)).message


async def test_closed_port_is_named() -> None:
    """Refused, in words."""
    async with answering(b"") as url:
        pass
    async with member(config(url)) as one:
        message = (await one.until(LoginFailed)).message
        assert message == f"cannot reach {url}: Connection refused"


async def test_http_on_a_tls_port_is_named() -> None:
    """An https URL for a server that is plain http."""
    async with (
        answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url,
        member(config(url.replace("http:", "https:"))) as one,
    ):
        message = (await one.until(LoginFailed)).message
        assert "does not speak TLS" in message


async def test_garbage_instead_of_noise_is_an_error_and_a_retry() -> None:
    """``/key`` is fine, the rest is not."""
    body = b'{"publicKey":"mkey:' + b"09" * 32 + b'"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with answering(answer) as url, member(config(url)) as one:
        message = (await one.until(LoginFailed)).message
        assert message == f"cannot connect to {url}: POST /ts2021 answered 200"
