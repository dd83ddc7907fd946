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
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_interface
from typing import Any

from tailnet.platform.interface import (
    BYPASS_MARK,
    NetworkChange,
    NetworkEvent,
    NetworkInterface,
    NetworkState,
)
from tailnet.platform.linux.netmon.classify import compare
from tailnet.platform.linux.netmon.messages import Hint, hints
from tailnet.platform.linux.rtnetlink import AsyncIPRoute, NetlinkError

log = logging.getLogger("tailnet.platform")

PAUSE = 0.25  # seconds without hints before we look
MOST = 1.0  # seconds that hints may put it off
SLEEP_POLL = 15.0  # seconds between looks at the clocks
_GROUPS = 0x1 | 0x10 | 0x100 | 0x40 | 0x400 | 0x80 | 1 << 18  # link, addresses, routes, rules
_QUEUE = 4 << 20  # bytes
_READ = 64 << 10  # bytes
_SO_RCVBUFFORCE = 33
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_FAR = {socket.AF_INET: "8.8.8.8", socket.AF_INET6: "2001:4860:4860::8888"}

Clocks = Callable[[], tuple[float, float]]


def read_clocks() -> tuple[float, float]:
    """Seconds since boot, with and without the time that the host slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.clock_gettime(time.CLOCK_MONOTONIC)


class LinuxNetworkMonitor:
    """A ``NetworkMonitor`` of the network namespace of the calling thread.

    Args:
        tun_name: the tunnel's device, which does not count; it may come later.
        clocks: for tests.
    """

    def __init__(self, tun_name: str, *, clocks: Clocks = read_clocks) -> None:
        self._tun = tun_name
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
        with _open() as sock:
            known = await self.state()
            slept_before = self._slept()
            while True:
                hint = await self._wait(sock)
                slept = self._slept() - slept_before
                slept_before += slept
                if Hint.TUNNEL in hint:
                    yield NetworkEvent(NetworkChange.TUNNEL, known, "rules or routes were removed")
                if Hint.NETWORK not in hint and slept <= 0:
                    continue
                state = await self.state()
                event = compare(known, state, slept)
                known = state
                if event is not None:
                    log.info("network: %s change: %s", event.change.value, event.reason)
                    yield event

    def _slept(self) -> float:
        """Seconds in suspend since boot, to the nearest tenth: the clocks are read one by one."""
        boot, awake = self._clocks()
        return round(boot - awake, 1)

    async def _wait(self, sock: socket.socket) -> Hint:
        """Until something is worth a look, or it is time to see whether we slept."""
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
            news = hints(data, self._index()) if data else Hint.NETWORK | Hint.TUNNEL
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


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE)
    sock.bind((0, _GROUPS))
    return sock


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
