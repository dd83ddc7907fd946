"""How often a server that is in trouble is asked, in virtual time."""

import asyncio
import os
import socket
from dataclasses import dataclass, field

import pytest
from integration.lab.control_faults import refuse
from msgspec.structs import replace
from tests.support.control import config, faulty, hostinfo, new_server, settings
from tests.support.virtual import VirtualLoop, run

from tailnet.agent import clock
from tailnet.agent.control.aio import ControlClient
from tailnet.agent.control.backoff import CAP, STEP
from tailnet.agent.control.events import Connected, ControlEvent, Disconnected, LoginFailed
from tailnet.agent.dates import Calendar
from tailnet.agent.tailcfg.node import Hostinfo

MINUTES = 10
SECONDS = 60.0 * MINUTES


def stock_requests(seconds: float, jitter: float) -> int:
    """How often upstream's rule asks in that time, if all its delays have this factor."""
    count, now = 0, 0.0
    while now <= seconds:
        count += 1
        now += min(count**2 * STEP, CAP) * jitter
    return count


@dataclass
class Watched:
    """A client in virtual time; every socket is one request that was begun."""

    events: list[ControlEvent] = field(default_factory=list)
    dials: list[float] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, event: ControlEvent) -> None:
        """Called by the client."""
        self.events.append(event)
        if isinstance(event, Connected):
            self.connected.set()

    def client(self, url: str, description: Hostinfo | None = None) -> ControlClient:
        """A fresh one; it describes itself so."""
        loop = asyncio.get_running_loop()

        def mark(_: socket.socket) -> None:
            self.dials.append(loop.time())

        client = ControlClient(
            config(url),
            on_event=self.hear,
            mark=mark,
            now=loop.time,
            wall=clock.wall,
            calendar=Calendar(loop.time, clock.wall),
            random_bytes=os.urandom,
        )
        client.update(description or hostinfo("box"), ())
        return client


async def for_minutes(client: ControlClient) -> None:
    """Let it run."""
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    try:
        async with asyncio.timeout(SECONDS):
            await client.run()
    except TimeoutError:
        return


def closed_port() -> int:
    """A port of loopback that refuses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_outage_of_ten_minutes_costs_no_more_than_upstreams() -> None:
    """A first login at a server that is down: jittered squares, then twice a minute."""
    watched = Watched()

    async def main() -> None:
        await for_minutes(watched.client(f"http://127.0.0.1:{closed_port()}"))

    run(main())
    requests = len(watched.dials)
    assert stock_requests(SECONDS, 1.5) <= requests <= stock_requests(SECONDS, 0.5)
    assert requests <= 75
    pauses = [b - a for a, b in zip(watched.dials, watched.dials[1:], strict=False)]
    assert pauses[0] <= 1.5 * STEP
    assert max(pauses) <= 1.5 * CAP
    assert len(set(pauses)) == len(pauses)  # jitter
    failures = [e for e in watched.events if isinstance(e, LoginFailed)]
    assert len(failures) == requests


def test_a_session_that_loses_its_server_asks_no_more_often() -> None:
    """The map stream ends, the server stays away; updates and polls together keep to the rule."""
    watched = Watched()

    async def main() -> None:
        server = new_server(settings())
        await server.start("127.0.0.1", 0)
        client = watched.client(server.origin)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(for_minutes(client))
            async with asyncio.timeout(100):
                await watched.connected.wait()
            await server.stop()
            watched.dials.clear()
            client.update(hostinfo("renamed"), ())
            await task

    run(main())
    assert any(isinstance(e, Disconnected) for e in watched.events)
    # Upstream has two loops of that kind too: the stream, and updates.
    assert len(watched.dials) <= 2 * stock_requests(SECONDS, 0.5)
    late = [at for at in watched.dials if at > SECONDS / 2]
    assert len(late) <= 2 * 2 * (SECONDS / 2) / (CAP / 2)


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [("120", 120, 120), ("", 5, 10), ("99999", 5, 10)],
)
def test_a_server_that_says_when_is_asked_then(header: str, low: float, high: float) -> None:
    """429 with ``Retry-After`` is obeyed to the second; without one it is 5 to 10 s."""
    watched = Watched()

    async def main() -> None:
        async with faulty(settings()) as server:
            step = refuse(429, retry_after=header) if header else refuse(429)
            server.script["/machine/register"] = [step] * 1000
            await for_minutes(watched.client(server.origin))

    run(main())
    waits = [e.retry_in or 0.0 for e in watched.events if isinstance(e, LoginFailed)]
    assert waits
    assert all(low <= wait <= high for wait in waits)
    assert SECONDS / (high + 1) - 1 <= len(waits) <= SECONDS / low + 1


def test_nothing_is_sent_without_a_log_id() -> None:
    """For minutes; then the description is complete, and the login follows at once."""
    watched = Watched()

    async def main() -> None:
        async with faulty(settings()) as server:
            client = watched.client(server.origin, replace(hostinfo("box"), backend_log_id=""))
            async with asyncio.TaskGroup() as group:
                running = group.create_task(client.run())
                await asyncio.sleep(SECONDS)
                assert not watched.dials
                assert not server.asked
                client.update(hostinfo("box"), ())
                await watched.connected.wait()
                running.cancel()
            assert server.asked["/machine/register"] == 1

    run(main())


def test_logout_expires_the_key() -> None:
    """The server marks it, and hears nothing more of the client, whatever happens to that."""
    watched = Watched()

    async def main() -> None:
        async with faulty(settings()) as server:
            client = watched.client(server.origin)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(client.run())
                await watched.connected.wait()
                await client.logout()
                assert server.store.records[1].key_expiry is not None
                events, asked, dials = len(watched.events), server.asked.total(), len(watched.dials)
                client.update(hostinfo("again"), ())
                client.poke()
                await asyncio.sleep(SECONDS)
                assert (len(watched.events), server.asked.total()) == (events, asked)
                assert len(watched.dials) == dials
                running.cancel()

    run(main())
