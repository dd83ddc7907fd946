"""The network monitor on a real kernel: devices, addresses and routes that come and go."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.platform_netns import ip, two_uplinks

from tailnet.platform.interface import NetworkChange, NetworkEvent, NetworkState
from tailnet.platform.linux.netmon.monitor import (
    GROUPS,
    PAUSE,
    Clocks,
    LinuxNetworkMonitor,
    read_clocks,
)
from tailnet.platform.linux.tun import open_tun

pytestmark = pytest.mark.netns
PATIENCE = 20.0  # seconds; a deadline, not a measurement


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """Two uplinks, the first in use."""
    with two_uplinks("192.0"):
        ip("route", "add", "default", "via", "192.0.1.1")
        yield


Next = Callable[[], Awaitable[NetworkEvent]]


class Counting(LinuxNetworkMonitor):
    """Knows how often it looked."""

    looks = 0

    async def state(self) -> NetworkState:
        """As it is now."""
        self.looks += 1
        return await super().state()


@asynccontextmanager
async def watching(
    clocks: Clocks = read_clocks, monitor: LinuxNetworkMonitor | None = None
) -> AsyncIterator[Next]:
    """Events, one by one, after the first, which says how it is."""
    queue: asyncio.Queue[NetworkEvent] = asyncio.Queue()
    asked = monitor or LinuxNetworkMonitor("tailnet0", clocks=clocks)

    async def watch() -> None:
        async for event in asked.events():
            queue.put_nowait(event)

    async def following() -> NetworkEvent:
        return await asyncio.wait_for(queue.get(), PATIENCE)

    task = asyncio.create_task(watch())
    first = await following()
    assert first.change is NetworkChange.FIRST
    assert first.state.default == "eth0"
    try:
        yield following
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_state_is_what_the_kernel_has() -> None:
    """Without the tunnel."""
    state = await LinuxNetworkMonitor("tailnet0").state()
    assert state.default_v4 == "eth0"
    assert state.default_v6 == ""
    assert {str(a) for a in state.interfaces["wlan0"].addrs} == {"192.0.2.2/24"}
    assert state.interfaces["wlan0"].up


async def test_a_new_way_out_is_a_major_change() -> None:
    """As when a cable is pulled and the other network takes over."""
    async with watching() as following:
        ip("route", "replace", "default", "via", "192.0.2.1")
        event = await following()
        assert event.change is NetworkChange.MAJOR
        assert event.reason == "the default route is by wlan0, was by eth0"
        assert event.state.default == "wlan0"


async def test_a_burst_of_changes_is_one_event() -> None:
    """Another address, and the route that came with it."""
    async with watching() as following:
        ip("address", "add", "198.51.100.7/24", "dev", "eth0")
        ip("address", "add", "198.51.101.7/24", "dev", "eth0")
        event = await following()
        assert len(event.state.interfaces["eth0"].addrs) == 3
        ip("link", "set", "eth0", "down")
        assert (await following()).state.default == ""


async def batch(commands: Iterable[str]) -> float:
    """By one ``ip``, while the monitor goes on; the seconds it took."""
    began = asyncio.get_running_loop().time()
    program = await asyncio.create_subprocess_exec("ip", "-batch", "-", stdin=subprocess.PIPE)
    await program.communicate("".join(f"{command}\n" for command in commands).encode())
    assert program.returncode == 0
    return asyncio.get_running_loop().time() - began


def at_once(commands: Iterable[str]) -> None:
    """The same, while nothing else goes on."""
    feed = "".join(f"{command}\n" for command in commands)
    subprocess.run(["ip", "-batch", "-"], input=feed, text=True, timeout=60, check=True)


def most_looks(seconds: float) -> int:
    """The first one, one for each pause that fits, and one for what came last."""
    return 2 + int(seconds / PAUSE)


async def test_a_default_route_that_flaps_is_one_event_a_pause() -> None:
    """Two thousand times; in the end the monitor knows how it is."""
    monitor = Counting("tailnet0")
    flap = [f"route replace default via 192.0.{n}.1" for n in (2, 1)]
    async with watching(monitor=monitor) as following:
        seconds = await batch([*flap * 1000, flap[0]])
        while (await following()).state.default != "wlan0":
            pass
        assert monitor.looks <= most_looks(seconds)


async def test_ten_thousand_routes_of_others_are_few_looks() -> None:
    """They come and go; nothing of them is an event."""
    monitor = Counting("tailnet0")
    routes = [f"10.{n >> 8}.{n & 255}.0/24 via 192.0.2.1" for n in range(10_000)]
    async with watching(monitor=monitor) as following:
        seconds = await batch(
            f"route {verb} {route}" for verb in ("add", "del") for route in routes
        )
        ip("route", "replace", "default", "via", "192.0.2.1")
        event = await following()
        assert (event.change, event.state.default) == (NetworkChange.MAJOR, "wlan0")
        assert monitor.looks <= most_looks(seconds)


async def test_what_overflows_the_queue_is_made_up_for_by_a_look() -> None:
    """Nobody reads while it happens, so the kernel throws the last notifications away."""
    monitor = Counting("tailnet0")
    routes = [f"10.{n >> 8}.{n & 255}.0/24 via 192.0.2.1" for n in range(10_000)]
    async with watching(monitor=monitor) as following:
        at_once([f"route {verb} {r}" for verb in ("add", "del") for r in routes])
        ip("route", "replace", "default", "via", "192.0.2.1")
        assert overflowed()
        began = asyncio.get_running_loop().time()
        while (event := await following()).change is not NetworkChange.MAJOR:
            pass
        assert event.state.default == "wlan0"
        assert monitor.looks <= most_looks(asyncio.get_running_loop().time() - began)


def overflowed() -> bool:
    """A netlink socket of this process lost something."""
    rows = [line.split() for line in Path("/proc/net/netlink").read_text().splitlines()[1:]]
    return any(int(row[8]) for row in rows if row[1] == "0" and row[3] == f"{GROUPS:08x}")


async def test_a_default_route_of_another_table_counts() -> None:
    """The way out is what the kernel says, not what the main table has (#4038)."""
    ip("route", "add", "default", "via", "192.0.2.1", "table", "100")
    ip("rule", "add", "pref", "100", "lookup", "100")
    assert (await LinuxNetworkMonitor("tailnet0").state()).default == "wlan0"


async def test_an_address_that_is_announced_again_is_no_event() -> None:
    """As router advertisements do all day (#4282)."""
    async with watching() as following:
        for life in range(1000, 1100):
            lives = ("valid_lft", str(life), "preferred_lft", str(life))
            ip("address", "change", "192.0.1.2/24", "dev", "eth0", *lives)
        ip("route", "replace", "default", "via", "192.0.2.1")
        event = await following()
        assert (event.change, event.state.default) == (NetworkChange.MAJOR, "wlan0")


async def test_what_happens_to_the_tunnel_is_told_as_such() -> None:
    """Rules, routes of table 52, addresses: removed by somebody."""
    tun = open_tun("tailnet0")
    try:
        async with watching() as following:
            ip("link", "set", tun.name, "up")
            ip("address", "add", "100.64.0.1/32", "dev", tun.name)
            ip("route", "add", "100.64.0.2/32", "dev", tun.name, "table", "52")
            ip("rule", "add", "pref", "5270", "lookup", "52")
            for removal in (
                ("rule", "del", "pref", "5270"),
                ("route", "flush", "table", "52"),
                ("address", "del", "100.64.0.1/32", "dev", tun.name),
            ):
                ip(*removal)
                while (await following()).change is not NetworkChange.TUNNEL:
                    pass
    finally:
        tun.close()


async def test_sleep_is_noticed_by_the_clocks() -> None:
    """One counts while the host is suspended, the other does not."""
    clocks = [0.0]
    async with watching(lambda: (clocks[0], 0.0, clocks[0])) as following:
        clocks[0] = 3600.0
        ip("link", "add", "x0", "type", "veth", "peer", "name", "x1")
        event = await following()
        assert event.change is NetworkChange.MAJOR
        assert event.slept == 3600.0
