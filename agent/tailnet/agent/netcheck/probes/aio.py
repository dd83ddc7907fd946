"""Names of STUN servers, latencies by HTTPS and ICMP, and captive portals: sockets of their own.

Source: tailscale net/netcheck/netcheck.go measureHTTPSLatency, measureICMPLatency, nodeAddr;
net/captivedetection/captivedetection.go.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime
from ipaddress import IPv4Address, ip_address

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.derp.dial.aio import Dialer
from tailnet.agent.echo.aio import echo
from tailnet.agent.errors import BadPacket, RemoteProtocolError
from tailnet.agent.netcheck import captive
from tailnet.agent.netcheck.exchange import Answer, AnswerReader, encode_get
from tailnet.agent.netcheck.measurement import AskOtherwise
from tailnet.agent.netcheck.plan import Plan, literal, needs_name, stun_port
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

log = logging.getLogger("tailnet.netcheck")

NAMES_TIMEOUT = 2.0  # s for the names of all STUN servers
HTTPS_TIMEOUT = 5.0  # s for a region
ICMP_TIMEOUT = 1.0  # s for a relay
PORTAL_TIMEOUT = 3.0  # s for a relay
AT_ONCE = 16  # regions that are asked by HTTPS at the same time
READ_SIZE = 4096
_FAILURES = (OSError, ValueError, BadPacket, RemoteProtocolError)

Found = Callable[[int, int, float, bool], None]
"""Region, IP version, latency [s], and whether that was ICMP."""


class Probes:
    """How this machine asks."""

    def __init__(
        self,
        dialer: Dialer,
        *,
        mark: Callable[[socket.socket], None],
        now: Callable[[], float],
        wall: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """What all of it has in common.

        Args:
            dialer: reaches relays.
            mark: makes a socket bypass the tunnel; called before it connects.
            now: seconds, never decreasing.
            wall: UTC time.
            random_bytes: that many of them.
        """
        self._dialer = dialer
        self._mark = mark
        self._now = now
        self._wall = wall
        self._random_bytes = random_bytes

    async def addresses(self, plan: Plan) -> dict[tuple[DERPNode, int], AddrPort]:
        """Addresses of the servers of a plan; names that do not resolve are left out."""
        wanted = {(probe.node, v) for (_, v), probes in plan.items() for probe in probes}
        found = {
            (node, version): AddrPort(ip_address(text), stun_port(node))
            for node, version in wanted
            if (text := literal(node, version)) and stun_port(node) <= 0xFFFF
        }
        names = {node for node, version in wanted if needs_name(node, version)}
        for addresses in await asyncio.gather(*map(_resolve, names)):
            found |= {key: addr for key, addr in addresses.items() if key in wanted}
        return found

    async def otherwise(self, derp_map: DERPMap, wish: AskOtherwise, found: Found) -> None:
        """Measure regions without UDP; tells each finding as it comes."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def within(work: Awaitable[None]) -> None:
            async with slots:
                await work

        async with asyncio.TaskGroup() as group:
            for region_id in wish.regions:
                region = derp_map.region(region_id)
                if region is None:
                    continue
                group.create_task(within(self._https(region_id, region, found)))
                if wish.icmp:
                    group.create_task(self._icmp(region_id, region, found))

    async def portal(self, derp_map: DERPMap, home: int) -> bool | None:
        """Whether somebody answers for relays; ``None`` if no relay could be asked."""
        asked = await asyncio.gather(*map(self._portal_at, captive.endpoints(derp_map, home)))
        judged = [verdict for verdict in asked if verdict is not None]
        return any(judged) if judged else None

    # --- one question

    async def _https(self, region_id: int, region: DERPRegion, found: Found) -> None:
        """The time of a request on a connection that is open; its making is not counted."""
        try:
            async with asyncio.timeout(HTTPS_TIMEOUT):
                node, sock, _ = await self._dialer.connect(region)
                version = 6 if sock.family == socket.AF_INET6 else 4
                reader = asyncio.StreamReader()
                protocol = asyncio.StreamReaderProtocol(reader)
                transport = await self._dialer.secure(sock, node, protocol)
                try:
                    request = encode_get(self._dialer.host(node), "/derp/latency-check")
                    began = self._now()
                    transport.write(request)
                    answer = await _answer(lambda: reader.read(READ_SIZE))
                finally:
                    transport.abort()
        except _FAILURES as error:
            log.debug("region %d by HTTPS: %s", region_id, error)
            return
        if answer.status <= 299:
            found(region_id, version, self._now() - began, False)

    async def _icmp(self, region_id: int, region: DERPRegion, found: Found) -> None:
        node = next(iter(region.nodes or ()), None)
        text = "" if node is None else literal(node, 4)
        if not text:
            return
        if (latency := await self.host(IPv4Address(text), ICMP_TIMEOUT)) is not None:
            found(region_id, 4, latency, True)

    async def host(self, ip: IPAddress, wait: float) -> float | None:
        """Round trip to a host by ICMP, outside the tunnel [s]; ``None`` without an answer."""
        try:
            return await echo(
                None,
                ip,
                wait,
                now=self._now,
                random_bytes=self._random_bytes,
                mark=self._mark,
            )
        except OSError as error:
            log.debug("%s by ICMP: %s", ip, error)
            return None

    async def _portal_at(self, address: str) -> bool | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PORTAL_TIMEOUT):
                flags = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
                with contextlib.closing(socket.socket(socket.AF_INET, flags)) as sock:
                    self._mark(sock)
                    await loop.sock_connect(sock, (address, captive.PORT))
                    stamp = int(self._wall().timestamp())
                    await loop.sock_sendall(sock, captive.encode_check(address, stamp))
                    answer = await _answer(lambda: loop.sock_recv(sock, READ_SIZE))
        except _FAILURES as error:
            log.debug("captive portal check of %s: %s", address, error)
            return None
        return captive.is_portal(address, answer)


async def _answer(read: Callable[[], Awaitable[bytes]]) -> Answer:
    """The head of an HTTP answer.

    Raises:
        BadPacket: it is none.
    """
    reader = AnswerReader()
    while (answer := reader.feed_untrusted(await read())) is None:
        pass
    return answer


async def _resolve(node: DERPNode) -> dict[tuple[DERPNode, int], AddrPort]:
    """Addresses of a server by name, for the families the map leaves open."""
    port = stun_port(node)
    try:
        async with asyncio.timeout(NAMES_TIMEOUT):
            infos = await asyncio.get_running_loop().getaddrinfo(
                node.host_name, port, type=socket.SOCK_DGRAM
            )
    except (OSError, UnicodeError, OverflowError) as error:
        log.debug("STUN server %s: %s", node.host_name, error)
        return {}
    found: dict[tuple[DERPNode, int], AddrPort] = {}
    for family, _, _, _, address in infos:
        version = 6 if family == socket.AF_INET6 else 4
        if needs_name(node, version):
            with contextlib.suppress(BadPacket):
                found.setdefault((node, version), AddrPort.of(str(address[0]), port))
    return found
