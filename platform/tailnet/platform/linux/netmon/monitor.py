"""The watch: a netlink socket for hints, a timer for sleep, and a fresh look after either.

Hints come in bursts (a new address is link, address and route), so the look waits until they pause,
but never longer than a second.  When the kernel's queue overflows, everything may have changed.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_interface
from typing import Any

from tailnet.platform.interface import NetworkChange, NetworkEvent, NetworkInterface, NetworkState
from tailnet.platform.linux.constants import BYPASS_MARK
from tailnet.platform.linux.netmon.classify import compare
from tailnet.platform.linux.netmon.messages import Hint, hints
from tailnet.platform.linux.netmon.sleep import Sleep
from tailnet.platform.linux.rtnetlink import AsyncIPRoute, NetlinkError

log = logging.getLogger("tailnet.platform")

PAUSE = 0.25  # seconds without hints before we look
MOST = 1.0  # seconds that hints may put it off
RETRY = 10.0  # seconds between looks where the kernel tells nothing
SLEEP_POLL = 15.0  # seconds between looks at the clocks
GROUPS = 0x1 | 0x10 | 0x100 | 0x40 | 0x400 | 0x80 | 1 << 18  # link, addresses, routes, rules
_QUEUE = 4 << 20  # bytes
_READ = 64 << 10  # bytes
_SO_RCVBUFFORCE = 33
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_FAR = {socket.AF_INET: "8.8.8.8", socket.AF_INET6: "2001:4860:4860::8888"}

EVERYTHING = Hint.NETWORK | Hint.TUNNEL

Clocks = Callable[[], tuple[float, float, float]]


def read_clocks() -> tuple[float, float, float]:
    """Seconds: since boot, the same without the time that the host slept, and of the calendar."""
    return (
        time.clock_gettime(time.CLOCK_BOOTTIME),
        time.clock_gettime(time.CLOCK_MONOTONIC),
        time.clock_gettime(time.CLOCK_REALTIME),
    )


class LinuxNetworkMonitor:
    """A ``NetworkMonitor`` of the network namespace of the calling thread.

    Args:
        tun_name: the tunnel's device, which does not count; it may come later.
        own_port: netlink's, by which we change routes ourselves.
        clocks: for tests.
    """

    def __init__(self, tun_name: str, *, own_port: int = 0, clocks: Clocks = read_clocks) -> None:
        self._tun = tun_name
        self._own_port = own_port
        self._clocks = clocks

    async def state(self) -> NetworkState:
        """As it is now."""
        async with AsyncIPRoute() as ip:
            links = [m async for m in await ip.get_links()]
            addrs = [m async for m in await ip.get_addr()]
            indexes = {int(m["index"]): str(m.get_attr("IFLA_IFNAME")) for m in links}
            defaults = {f: await _way_out(ip, f, to) for f, to in _FAR.items()}
        own = {name: _interface(m, addrs) for m in links if (name := _name(m)) != self._tun}
        four, six = (indexes.get(defaults[f], "") for f in (socket.AF_INET, socket.AF_INET6))
        out = (name if name != self._tun else "" for name in (four, six))
        return NetworkState(own, *out)

    async def events(self) -> AsyncIterator[NetworkEvent]:
        """See ``NetworkMonitor``."""
        known: NetworkState | None = None
        sleep = Sleep(*self._clocks())
        while True:
            try:
                with _notifications() as sock:
                    hint = EVERYTHING  # of what happened before nobody was notified
                    while True:
                        for event in await self._look(known, hint, sleep.handle(*self._clocks())):
                            known = event.state
                            yield event
                        hint = await self._wait(sock)
            except (OSError, NetlinkError) as error:
                log.warning("cannot watch the network: %s; looking again in %.0f s", error, RETRY)
                await asyncio.sleep(RETRY)

    async def _look(
        self, known: NetworkState | None, hint: Hint, slept: float
    ) -> list[NetworkEvent]:
        """What the hints were about; usually one event, or none.

        Raises:
            OSError, NetlinkError: the kernel does not say.
        """
        if known is None:
            return [NetworkEvent(NetworkChange.FIRST, await self.state(), "this is how it is")]
        found = []
        if Hint.TUNNEL in hint:
            found.append(
                NetworkEvent(
                    NetworkChange.TUNNEL,
                    known,
                    "something of ours went, or a rule before ours is another",
                )
            )
        if Hint.NETWORK in hint or slept:
            event = compare(known, await self.state(), slept)
            if event is not None:
                log.info("network: %s change: %s", event.change.value, event.reason)
                found.append(event)
        return found

    async def _wait(self, sock: socket.socket | None) -> Hint:
        """Until something is worth a look, or it is time to see whether we slept."""
        if sock is None:
            await asyncio.sleep(RETRY)
            return EVERYTHING
        loop = asyncio.get_running_loop()
        found, latest, end = Hint.NONE, loop.time() + SLEEP_POLL, 0.0
        while True:
            try:
                async with asyncio.timeout_at(latest):
                    data = await loop.sock_recv(sock, _READ)
            except TimeoutError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                data = b""
            news = hints(data, self._index(), self._own_port) if data else EVERYTHING
            if news is Hint.NONE:
                continue
            found |= news
            end = end or loop.time() + MOST
            latest = min(loop.time() + PAUSE, end)

    def _index(self) -> int:
        try:
            return socket.if_nametoindex(self._tun)
        except OSError:
            return 0


@contextlib.contextmanager
def _notifications() -> Iterator[socket.socket | None]:
    """A socket that gets them, ``None`` in sandboxes that have none to give.

    Raises:
        OSError: no netlink at all.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0) as sock:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE)
        try:
            sock.bind((0, GROUPS))
        except OSError as error:
            log.info("no notifications of the network: %s; looking every %.0f s", error, RETRY)
            yield None
            return
        yield sock


async def _way_out(ip: AsyncIPRoute, family: int, far: str) -> int:
    """Index of the device that the daemon's own packets would leave by; 0 if there is none."""
    try:
        found = await ip.route("get", family=family, dst=far, mark=BYPASS_MARK)
    except (NetlinkError, OSError):
        return 0
    return int(found[0].get_attr("RTA_OIF") or 0) if found else 0


def _name(message: Any) -> str:  # noqa: ANN401 - untyped library
    return str(message.get_attr("IFLA_IFNAME"))


def _interface(link: Any, addrs: list[Any]) -> NetworkInterface:  # noqa: ANN401 - untyped library
    flags = int(link["flags"])
    own = (m for m in addrs if m["index"] == link["index"])
    texts = (
        f"{m.get_attr('IFA_LOCAL') or m.get_attr('IFA_ADDRESS')}/{m['prefixlen']}" for m in own
    )
    running = _IFF_UP | _IFF_RUNNING
    return NetworkInterface(
        _name(link), flags & running == running, frozenset(map(ip_interface, texts))
    )
