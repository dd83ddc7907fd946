"""A server in trouble: whatever goes wrong, the client says so, asks again, and gets through."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import zstandard
from integration.lab.control_faults import (
    Fault,
    FaultyControl,
    Honest,
    cut,
    drip,
    garble,
    hang,
    refuse,
    send,
)
from integration.lab.control_noise import Request
from tests.support.control import (
    AUTH_KEY,
    Member,
    config,
    faulty,
    hostinfo,
    member,
    new_server,
    settings,
)
from tests.support.virtual import run

from tailnet.agent import clock
from tailnet.agent.control.aio import ControlClient
from tailnet.agent.control.events import (
    AuthURL,
    Connected,
    ControlEvent,
    Disconnected,
    LoginFailed,
    NetmapChanged,
    Registered,
)
from tailnet.agent.control.mapstream import MAX_MESSAGE
from tailnet.agent.control.session import WATCHDOG
from tailnet.agent.control.trouble import Cause
from tailnet.agent.dates import Calendar
from tailnet.agent.keys import MachinePrivate


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_login_that_fails_is_shown_and_tried_again(status: int) -> None:
    """The status and the server's words; the next answer counts."""
    async with faulty(settings()) as server:
        server.script["/machine/register"] = [refuse(status, "out to\x1b lunch", retry_after="1")]
        async with member(config(server.origin)) as one:
            failed = await one.until(LoginFailed)
            words = "rate limiting" if status == 429 else f"answered {status}: out to? lunch"
            assert words in failed.message
            assert not failed.final
            one.client.poke()
            await one.until(Connected)
            assert server.asked["/machine/register"] == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_auth_key_is_tried_once(status: int) -> None:
    """The client ends, whatever happens to the network; without a key it goes on trying."""
    async with faulty(settings()) as server:
        server.script["/machine/register"] = [refuse(status, "no")] * 2
        of = config(server.origin)
        async with member(of) as one:
            assert (await one.until(LoginFailed)).retry_in is None
            one.client.poke()
            await one.task
            assert server.asked["/machine/register"] == 1
        async with member(replace(of, auth_key="")) as one:
            failed = await one.until(LoginFailed)
            assert (failed.message, failed.final) == (f"register answered {status}: no", False)
            assert failed.retry_in is not None
            one.client.poke()
            await one.until(AuthURL)


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
async def test_a_refused_poll_is_tried_again_without_a_login(status: int) -> None:
    """With the status as the reason."""
    async with faulty(settings()) as server:
        server.script["/machine/map"] = [refuse(status, "later\n")] * 2
        async with member(config(server.origin)) as one:
            dropped = await one.until(Disconnected)
            assert dropped.reason == f"map answered {status}: later"
            await one.until(Connected)
            assert server.asked["/machine/register"] == 1


async def test_a_poll_is_not_repeated_before_the_server_wants_it() -> None:
    """``Retry-After`` counts for polls too."""
    async with faulty(settings()) as server:
        server.script["/machine/map"] = [refuse(503, retry_after="7")] * 2  # and an update
        async with member(config(server.origin)) as one:
            assert (await one.until(Disconnected)).retry_in == 7.0


@pytest.mark.parametrize("status", [401, 404, 410])
async def test_a_poll_by_nobody_is_a_new_login(status: int) -> None:
    """The server says that it does not know us: perhaps it takes us again."""
    async with faulty(settings()) as server:
        server.script["/machine/map"] = [refuse(status, "node not found\n")] * 2
        async with member(config(server.origin)) as one:
            await one.until(Connected)
            assert server.asked["/machine/register"] >= 2


BOMB = zstandard.ZstdCompressor().compress(b" " * (MAX_MESSAGE + 1))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (send(b""), "ended the map stream"),
        (send(b"\x05\0\0\0hello"), "bad zstd"),
        (send(len(BOMB).to_bytes(4, "little") + BOMB), "map message too long"),
        (send((MAX_MESSAGE + 1).to_bytes(4, "little")), "map message too long"),
        (send(b"\0\0\0\0"), "bad JSON"),
        (garble(b"\x01\0\x05hello"), "the control connection broke: not a record"),
        (garble(b"\x03\0\x05hello"), "the control connection broke: an error frame"),
        (garble(b"\x04\xff\xff"), "the control connection broke: "),
        (garble(b"\x04\0\x20" + bytes(32)), "authentication failed"),
        (cut(1), "closed the connection"),
        (cut(200), "closed the connection"),
    ],
)
async def test_a_broken_stream_is_a_reason_and_a_new_stream(fault: Fault, reason: str) -> None:
    """Bounded in memory, and soon forgotten."""
    async with faulty(settings()) as server:
        server.script["/machine/map"] = [fault]
        async with member(config(server.origin)) as one:
            dropped = await one.until(Disconnected)
            assert reason in dropped.reason
            await one.until(Connected)


async def test_a_slow_drip_arrives() -> None:
    """Seven bytes at a time."""
    async with faulty(settings()) as server:
        server.script["/machine/map"] = [drip(7, 0.0)]
        async with member(config(server.origin)) as one:
            await one.until(Connected)
            assert not any(isinstance(e, Disconnected) for e in one.events)


async def test_a_new_noise_key_is_refused_and_then_learnt() -> None:
    """The old key fails; the new one is asked for where it can be trusted, and nobody logs in."""
    async with faulty(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        server.settings.server_key = MachinePrivate.from_random(os.urandom(32))
        server.drop_streams()
        await one.until(NetmapChanged, again(one))
        assert sum(isinstance(e, Registered) for e in one.events) == 1


def again(one: Member) -> Callable[[NetmapChanged], bool]:
    """A whole map after a disconnection."""
    return lambda e: (
        e.full and any(isinstance(x, Disconnected) for x in one.events[: one.events.index(e)])
    )


@pytest.mark.parametrize("auth_key", [AUTH_KEY, ""])
async def test_a_lost_database_is_a_new_login(auth_key: str) -> None:
    """In a browser, whatever the first one was; the machine is the same."""
    of = settings()
    first = new_server(of)
    await first.start("127.0.0.1", 0)
    url = ""
    async with member(config(first.origin, auth_key)) as one:
        if not auth_key:
            url = (await one.until(AuthURL)).url
            assert await first.approve(url.rpartition("/")[2])
        await one.until(Connected)
        await first.stop()
        second = new_server(of)
        await second.start("127.0.0.1", first.port)
        try:
            old = url
            url = (await one.until(AuthURL, lambda e: e.url != old)).url
            assert await second.approve(url.rpartition("/")[2])
            await one.until(NetmapChanged, again(one))
            assert [node["online"] for node in second.nodes()] == [True]
        finally:
            await second.stop()


@asynccontextmanager
async def skewed(hours: float) -> AsyncIterator[FaultyControl]:
    """A server whose clock is wrong, or ours is."""

    def wall() -> datetime:
        return clock.wall() + timedelta(hours=hours)

    of = replace(settings(), key_ttl=3600.0)
    server = FaultyControl(of, now=clock.now, wall=wall, random_bytes=os.urandom)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


@pytest.mark.parametrize("hours", [-3, 3])
async def test_expiry_is_judged_by_the_servers_clock(hours: float) -> None:
    """A key of one hour is good although our clock is three hours off, either way."""
    async with skewed(hours) as server, member(config(server.origin)) as one:
        netmap = await one.sees(lambda m: True)
        assert not netmap.self_node.expired
        assert abs(one.calendar.ahead - hours * 3600) < 60
        server.expire_key(1)
        await one.sees(lambda m: m.self_node.expired)


class InVirtualTime:
    """A client, what it says, and when [s] it said each kind of thing first."""

    def __init__(self, server: FaultyControl) -> None:
        self.events: list[ControlEvent] = []
        self.first: dict[type, float] = {}
        self.connected = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._began, self._now = loop.time(), loop.time
        self._client = ControlClient(
            config(server.origin),
            on_event=self._hear,
            mark=lambda _: None,
            now=loop.time,
            wall=clock.wall,
            calendar=Calendar(loop.time, clock.wall),
            random_bytes=os.urandom,
        )
        self._client.update(hostinfo("box"), ())

    def _hear(self, event: ControlEvent) -> None:
        self.events.append(event)
        self.first.setdefault(type(event), self._now() - self._began)
        if isinstance(event, Connected):
            self.connected.set()

    async def connect(self) -> None:
        """Run until connected, for ten minutes at most."""
        async with asyncio.timeout(600), asyncio.TaskGroup() as group:
            task = group.create_task(self._client.run())
            await self.connected.wait()
            task.cancel()


def test_a_connection_may_end_after_any_byte() -> None:
    """From the first byte of ``/key`` to the middle of the map; in the end it works."""

    async def main() -> None:
        async with faulty(settings()) as server:
            lengths = (0, 1, 40, 160, 220, 260, 300, 400, 500, 600, 700, 900, 1200)
            # A key, then another key and the connection for which it was.
            server.cuts = [after for n in lengths for after in (n, 5000, n)]
            client = InVirtualTime(server)
            await client.connect()
            failures = [e.message for e in client.events if isinstance(e, LoginFailed)]
            assert len(set(failures)) >= 4
            assert not any("\n" in message for message in failures)

    run(main())


def test_a_silent_server_is_left_after_two_minutes() -> None:
    """And a login that hangs after half a minute."""

    async def main() -> None:
        async with faulty(settings()) as server:
            server.script["/machine/register"] = [hang()]
            server.script["/machine/map"] = [hang(), hang()]  # the stream and an update
            client = InVirtualTime(server)
            await client.connect()
        first = client.first
        assert first[LoginFailed] == pytest.approx(30, abs=1)
        assert first[Disconnected] - first[Registered] == pytest.approx(WATCHDOG, abs=1)
        (lost,) = [event for event in client.events if isinstance(event, Disconnected)][:1]
        assert lost.cause is Cause.SILENCE

    run(main())


async def test_a_deleted_node_whose_stream_stays_open_logs_in_again() -> None:
    """Headscale answers 404 to updates at once, and ends the stream much later."""
    async with faulty(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        server.delete(1, late=True)
        one.client.update(hostinfo("renamed"), ())
        dropped = await one.until(Disconnected)
        assert dropped.reason == "map answered 404: node not found"
        await one.until(AuthURL)
        assert server.nodes() == []


async def test_updates_that_always_fail_cause_no_storm_of_logins() -> None:
    """A server that streams but knows nobody in updates: one login, then the stream counts."""
    async with faulty(settings()) as server, member(config(server.origin)) as one:
        await one.until(Connected)
        server.script["/machine/map"] = [
            refuse(404, "node not found\n"),
            *[honest_stream] * 50,
        ]
        one.client.update(hostinfo("renamed"), ())
        await one.until(Disconnected)
        for number in range(5):
            one.client.update(hostinfo(f"renamed{number}"), ())
            await asyncio.sleep(0.05)
        assert server.asked["/machine/register"] == 2


async def honest_stream(request: Request, serve: Honest) -> None:
    """Streams are served, updates are not."""
    if b'"Stream":true' in request.body:
        await serve(request)
    else:
        request.reply(404, b"node not found\n")
