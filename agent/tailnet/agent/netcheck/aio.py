"""One full measurement on demand, from sockets of its own: ``tnet netcheck``.

Source: tailscale cmd/tailscale/cli/netcheck.go; net/netcheck/standalone.go.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Collection
from ipaddress import ip_address

from tailnet.agent.addr import IPAddress
from tailnet.agent.errors import BadPacket, UserError
from tailnet.agent.netcheck.home import Home
from tailnet.agent.netcheck.measurement import AskOtherwise, CheckPortal, Measurement, Wish
from tailnet.agent.netcheck.plan import VERSIONS, make_plan, measurable
from tailnet.agent.netcheck.probes.aio import Probes
from tailnet.agent.netcheck.report import Report
from tailnet.agent.tailcfg.derpmap import DERPMap
from tailnet.agent.tasks import Tasks

log = logging.getLogger("tailnet.netcheck")

READ_SIZE = 2048
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Netcheck:
    """Measures once; knows nothing from before and leaves nothing behind."""

    def __init__(
        self,
        probes: Probes,
        *,
        mark: Callable[[socket.socket], None],
        now: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """``mark`` makes a socket bypass the tunnel; called before it binds."""
        self._probes = probes
        self._mark = mark
        self._now = now
        self._random_bytes = random_bytes
        self._wake = asyncio.Event()
        self._sockets: dict[int, socket.socket] = {}
        self._running: Measurement | None = None

    async def run(
        self, derp_map: DERPMap, versions: Collection[int], address: str = "", port: int = 0
    ) -> tuple[Report, int]:
        """The findings and the nearest region, 0 if none answers.

        Args:
            derp_map: the relays.
            versions: of IP that this machine has addresses of.
            address: to send from; empty leaves it to the kernel.
            port: to send from; 0 chooses one.

        Raises:
            UserError: that cannot be sent from.
        """
        tasks = Tasks()
        try:
            self._open(_address(address), port)
            plan = make_plan(derp_map, [v for v in versions if v in self._sockets], None, 0)
            addresses = await self._probes.addresses(plan)
            running = self._running = Measurement(
                plan, addresses, measurable(derp_map), self._now(), self._random_bytes, full=True
            )
            while not running.done:
                await self._step(running, tasks, derp_map)
        finally:
            await tasks.close()
            for sock in self._sockets.values():
                asyncio.get_running_loop().remove_reader(sock)
                sock.close()
        report = running.report()
        home = Home().update(report.by_region(), derp_map, self._now(), alive=False)
        return report, home if report.latency else 0

    async def _step(self, running: Measurement, tasks: Tasks, derp_map: DERPMap) -> None:
        """Do what the measurement wants, then wait for something to happen."""
        self._wake.clear()
        while (request := running.poll_transmit()) is not None:
            to, data = request
            sock = self._sockets.get(to.ip.version)
            if sock is None or not _send(sock, data, (str(to.ip), to.port)):
                running.send_failed(to, self._now())
        while (wish := running.poll_wish()) is not None:
            _ = tasks.start("netcheck", self._find_out(running, wish, derp_map))
        at = running.next_timeout()
        if at is None:
            return
        try:
            async with asyncio.timeout(max(0.0, at - self._now())):
                await self._wake.wait()
        except TimeoutError:
            running.handle_timeout(self._now())

    async def _find_out(self, running: Measurement, wish: Wish, derp_map: DERPMap) -> None:
        match wish:
            case AskOtherwise():
                await self._probes.otherwise(
                    derp_map,
                    wish,
                    lambda r, v, seconds, icmp: running.handle_latency(r, v, seconds, icmp=icmp),
                )
                running.handle_asked(self._now())
            case CheckPortal():
                portal = await self._probes.portal(derp_map, 0)
                running.handle_portal(portal, self._now())
        self._wake.set()

    def handle_datagram(self, data: bytes) -> None:
        """Something came, perhaps an answer."""
        if self._running is None:
            return
        try:
            self._running.handle_response_untrusted(data, self._now())
        except BadPacket as error:
            log.debug("STUN: %s", error)
        self._wake.set()

    def _open(self, address: IPAddress | None, port: int) -> None:
        loop = asyncio.get_running_loop()
        failure = "no IP"
        for version in VERSIONS if address is None else (address.version,):
            try:
                sock = _bind(version, "" if address is None else str(address), port, self._mark)
            except OSError as error:
                failure = error.strerror or str(error)
                continue
            self._sockets[version] = sock
            loop.add_reader(sock, self._read, sock)
        if not self._sockets:
            msg = f"cannot send from {address or 'any address'}, port {port}: {failure}"
            raise UserError(msg)

    def _read(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(READ_SIZE)
        except OSError as error:  # ICMP's complaints
            log.debug("STUN: %s", error)
            return
        self.handle_datagram(data)


def _bind(
    version: int, address: str, port: int, mark: Callable[[socket.socket], None]
) -> socket.socket:
    sock = socket.socket(_FAMILIES[version], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        mark(sock)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def _send(sock: socket.socket, data: bytes, to: tuple[str, int]) -> bool:
    """False if the kernel has no way there."""
    try:
        sock.sendto(data, to)
    except BlockingIOError:
        return True  # as good as lost; it is asked again
    except OSError:
        return False
    return True


def _address(text: str) -> IPAddress | None:
    try:
        return ip_address(text) if text else None
    except ValueError:
        msg = f"{text[:64]!r} is not an IP address"
        raise UserError(msg) from None
