"""What is tried out on request."""

import asyncio
import json
import sys
from ipaddress import IPv4Address

import pytest
from tests.agent.localapi.test_routes import ask
from tests.support.fake_backend import FakeBackend
from tests.support.pprof import read_profile

from tailnet.agent.errors import UserError
from tailnet.agent.localapi.exchange import Request
from tailnet.agent.localapi.handlers.experiments import begin_portmap
from tailnet.agent.localapi.schema.experiments import EndpointChange
from tailnet.agent.localapi.view.process.aio import ProcessView
from tailnet.agent.portmap.interface import Network


@pytest.fixture
def backend() -> FakeBackend:
    """Another one for each test."""
    return FakeBackend()


async def test_the_mark_is_told(backend: FakeBackend) -> None:
    """Under the name that upstream's client reads."""
    answer = await ask(backend, "GET", "check-so-mark-in-use")
    assert json.loads(answer.body) == {"UseSOMark": True}


async def test_changes_of_a_path_have_no_from_at_first(backend: FakeBackend) -> None:
    """As upstream's, where it is absent."""
    backend.experiments.changes = (
        EndpointChange(what="first", to="relay"),
        EndpointChange(what="better", from_="relay", to="192.0.2.1:41641"),
    )
    answer = await ask(backend, "GET", "debug-peer-endpoint-changes", ip="100.64.0.2")
    first, second = json.loads(answer.body)
    assert "From" not in first
    assert (second["From"], second["To"], second["What"]) == ("relay", "192.0.2.1:41641", "better")


@pytest.mark.parametrize(("ip", "status"), [("", 400), ("x", 400), ("100.64.0.9", 404)])
async def test_changes_are_of_a_peer(backend: FakeBackend, ip: str, status: int) -> None:
    """Anything else is refused."""
    answer = await ask(backend, "GET", "debug-peer-endpoint-changes", ip=ip)
    assert answer.status == status


async def test_each_way_to_connect_has_a_line(backend: FakeBackend) -> None:
    """As upstream writes it."""
    answer = await ask(backend, "POST", "debug-dial-types", ip="fd7a::1", port="22", network="tcp")
    assert answer.body.decode().splitlines() == [
        "[SystemDial] connected=true err=<nil>",
        "[PeerDial] connected=false err=connection refused",
    ]
    assert backend.experiments.calls == [("dial", "[fd7a::1]:22")]


@pytest.mark.parametrize(
    "query",
    [
        {"ip": "h2", "port": "22"},
        {"ip": "100.64.0.2", "port": "0"},
        {"ip": "100.64.0.2", "port": "70000"},
        {"ip": "100.64.0.2", "port": "²"},
        {"ip": "100.64.0.2", "port": "22", "network": "udp"},
    ],
)
async def test_ways_to_connect_want_an_address_and_a_port(
    backend: FakeBackend, query: dict[str, str]
) -> None:
    """Names are the client's to resolve."""
    assert (await ask(backend, "POST", "debug-dial-types", b"", **query)).status == 400
    assert not backend.experiments.calls


async def test_a_region_is_reported_in_upstreams_shape(backend: FakeBackend) -> None:
    """Good or bad, with 200."""
    answer = await ask(backend, "POST", "debug-derp-region", region="lab")
    assert json.loads(answer.body) == {
        "Info": ["region 900 is 'lab'"],
        "Warnings": ["it is the only region"],
        "Errors": [],
    }


async def test_the_key_of_paths_is_rotated_by_both_spellings(backend: FakeBackend) -> None:
    """The endpoint and the action."""
    assert (await ask(backend, "POST", "debug-rotate-disco-key")).status == 204
    answer = await ask(backend, "POST", "debug", action="rotate-disco-key")
    assert (answer.status, answer.body) == (200, b"done\n")
    assert backend.experiments.calls == [("rotate",), ("rotate",)]


@pytest.mark.parametrize(
    ("action", "body", "region"),
    [
        ("derp-set-homeless", b"", 0),
        ("derp-unset-homeless", b"", None),
        ("force-prefer-derp", b"900", 900),
        ("force-prefer-derp", b"0", None),
    ],
)
async def test_the_home_is_forced(
    backend: FakeBackend, action: str, body: bytes, region: int | None
) -> None:
    """Until it is set free again."""
    await ask(backend, "POST", "debug", body, action=action)
    assert backend.experiments.calls == [("home", region)]


@pytest.mark.parametrize("body", [b"", b"x", b"-1", b"1.5", b'{"a": 1}', b"9" * 40])
async def test_a_home_is_a_number(backend: FakeBackend, body: bytes) -> None:
    """Anything else changes nothing."""
    with pytest.raises(UserError, match="number of a region"):
        await ask(backend, "POST", "debug", body, action="force-prefer-derp")
    assert not backend.experiments.calls


async def test_everybody_who_watches_is_told_what_somebody_wants(backend: FakeBackend) -> None:
    """For those who write such programs."""
    watcher = await backend.watch(0, "0" * 16)
    watcher.take()
    await ask(backend, "POST", "debug", b'{"ErrMessage": "no"}', action="notify")
    assert [notify.err_message for notify in watcher.take()] == ["no"]
    with pytest.raises(UserError, match="no Notify"):
        await ask(backend, "POST", "debug", b'{"State": "x"}', action="notify")


def portmap(backend: FakeBackend, **query: str) -> None:
    """Begin to ask the router."""
    begin_portmap(backend, Request("GET", "/", query, b""))


def test_the_router_is_asked_as_wanted(backend: FakeBackend) -> None:
    """At most a minute, by all protocols, of the host's own router, if nothing else is said."""
    portmap(backend)
    portmap(backend, duration="1500ms", type="pcp", gateway_and_self="10.0.0.1/10.0.0.9")
    portmap(backend, duration="10m", type="")
    there = Network(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.9"))
    assert backend.experiments.calls == [
        ("portmap", 5.0, ("NAT-PMP", "PCP", "UPnP"), None),
        ("portmap", 1.5, ("PCP",), there),
        ("portmap", 60.0, ("NAT-PMP", "PCP", "UPnP"), None),
    ]


@pytest.mark.parametrize(
    "query",
    [
        {"duration": "soon"},
        {"duration": "-1s"},
        {"type": "all"},
        {"gateway_and_self": "10.0.0.1"},
        {"gateway_and_self": "::1/::2"},
    ],
)
def test_what_the_router_cannot_be_asked_is_said(
    backend: FakeBackend, query: dict[str, str]
) -> None:
    """Nothing begins."""
    with pytest.raises(UserError):
        portmap(backend, **query)
    assert not backend.experiments.calls


@pytest.mark.parametrize(
    ("query", "call"),
    [
        ({"name": "profile"}, ("profile", 30.0)),
        ({"name": "profile", "seconds": "3"}, ("profile", 3.0)),
        ({"name": "profile", "seconds": "999"}, ("profile", 50.0)),
        ({"name": "heap"}, ("heap", 0.0)),
        ({"name": "heap", "seconds": "2"}, ("heap", 2.0)),
        ({"name": "allocs", "seconds": "0"}, ("heap", 0.0)),
    ],
)
async def test_profiles_are_bounded(
    backend: FakeBackend, query: dict[str, str], call: tuple[str, float]
) -> None:
    """An answer is due within a minute."""
    assert (await ask(backend, "GET", "pprof", b"", **query)).status == 200
    assert backend.process.calls == [call]


@pytest.mark.parametrize("query", [{"name": "x"}, {}, {"name": "heap", "seconds": "x"}])
async def test_other_profiles_are_not_there(backend: FakeBackend, query: dict[str, str]) -> None:
    """Nothing begins."""
    assert (await ask(backend, "GET", "pprof", b"", **query)).status in (400, 404)
    assert not backend.process.calls


async def test_a_profile_shows_who_is_busy() -> None:
    """The function that spent the time, by name; and only one profile at a time."""
    process, over = ProcessView(), False

    async def work_hard() -> None:
        while not over:
            sum(range(100_000))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        busy = group.create_task(work_hard())
        profile = group.create_task(process.processor_profile(0.5))
        await asyncio.sleep(0)
        with pytest.raises(UserError, match="a profile already"):
            await process.memory_profile(0)
        found = read_profile(await profile)
        over = True
        await busy
    assert found.kinds == [("samples", "count"), ("cpu", "nanoseconds")]
    assert any("work_hard" in stack[0] for stack in found.samples)
    assert found.period == 10_000_000


async def test_memory_is_shown_by_class() -> None:
    """As it is now."""

    class Unmistakable:
        pass

    kept = [Unmistakable() for _ in range(321)]
    found = read_profile(await ProcessView().memory_profile(0))
    (sample,) = [values for stack, values in found.samples.items() if "Unmistakable" in stack[0]]
    assert sample[0] == len(kept)
    assert sample[1] >= sys.getsizeof(kept[0]) * len(kept)


async def test_memory_is_shown_by_who_asked_for_it() -> None:
    """Only what is still in use."""
    kept: list[bytes] = []

    async def ask_for_memory() -> None:
        while not kept:
            await asyncio.sleep(0)
            kept.extend(bytes(1000 + n) for n in range(100))

    async with asyncio.TaskGroup() as group:
        profile = group.create_task(ProcessView().memory_profile(0.3))
        await asyncio.sleep(0)
        await ask_for_memory()
        found = read_profile(await profile)
    mine = [v for stack, v in found.samples.items() if any("test_experiments" in s for s in stack)]
    assert sum(size for _, size in mine) >= sum(map(len, kept))
