"""The shell that resolves names: the system first, then what was right before, then the relays."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from ipaddress import ip_address

from tailnet.agent.addr import IPAddress
from tailnet.agent.control.http1 import get_request
from tailnet.agent.control.names import (
    NameCache,
    bootstrap_path,
    bootstraps,
    parse_bootstrap_untrusted,
)
from tailnet.agent.control.race.aio import race
from tailnet.agent.derp.dial.aio import Dialer as RelayDialer
from tailnet.agent.errors import BadPacket
from tailnet.agent.httpd.response import MAX_BODY, read_body_untrusted, split_head_untrusted
from tailnet.agent.tailcfg.codec import ip_or_none
from tailnet.agent.tailcfg.derpmap import DERPMap, DERPNode, DERPRegion

log = logging.getLogger("tailnet.control")

LOOKUP_TIMEOUT = 10.0  # seconds
HURRIED_TIMEOUT = 3.0  # seconds, when there is an older answer
RELAY_TIMEOUT = 3.0  # seconds for one relay
RELAY_DELAY = 1.0  # seconds until the next is asked too


class Resolver:
    """Addresses of names, for as long as possible."""

    def __init__(  # noqa: PLR0913 - each is one thing of the outside world
        self,
        *,
        ca_file: str | None,
        mark: Callable[[socket.socket], None],
        now: Callable[[], float],
        wall: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        environ: Mapping[str, str],
    ) -> None:
        self._now = now
        self._random_bytes = random_bytes
        self._cache = NameCache()
        self._relays = RelayDialer(
            mark=mark, wall=wall, ca_file=ca_file, plain_http=False, environ=environ
        )
        self.derp_map = DERPMap()
        """Relays that may be asked."""

    async def resolve(self, host: str) -> tuple[IPAddress, ...]:
        """Addresses of ``host``, which may be one itself.

        Raises:
            OSError: nobody knows any.
        """
        if (literal := ip_or_none(host)) is not None:
            return (literal,)
        if fresh := self._cache.fresh(host, self._now()):
            return fresh
        known = self._cache.last_good(host)
        try:
            async with asyncio.timeout(HURRIED_TIMEOUT if known else LOOKUP_TIMEOUT):
                found = await _look_up(host)
        except OSError as error:  # TimeoutError is one
            if known:
                return known
            if not (found := await self.ask_relays(host)):
                raise error from None
        self._cache.put(host, found, self._now())
        return found

    async def ask_relays(self, host: str) -> tuple[IPAddress, ...]:
        """What relays say of a name; empty if they know nothing."""
        relays = bootstraps(self.derp_map, self._random_bytes)
        if not relays:
            return ()

        def starter(relay: DERPNode) -> Callable[[], Awaitable[tuple[IPAddress, ...]]]:
            return lambda: self._ask(relay, host)

        try:
            found = await race(
                [(RELAY_DELAY * i, starter(relay)) for i, relay in enumerate(relays)],
                discard=lambda _: None,
            )
        except OSError as error:
            log.debug("no relay resolves a name for us: %s", error)
            return ()
        log.info("DNS does not work; a relay knows where the control server is")
        return found

    async def _ask(self, relay: DERPNode, host: str) -> tuple[IPAddress, ...]:
        async with asyncio.timeout(RELAY_TIMEOUT):
            node, sock, _ = await self._relays.connect(DERPRegion(nodes=(relay,)))
            answer = _Answer()
            try:
                transport = await self._relays.secure(sock, node, answer)
            except BaseException:  # cancelled, too: nobody else knows the socket, and it goes on
                sock.close()
                raise
            try:
                transport.write(get_request(bootstrap_path(host), self._relays.host(node)))
                body = await answer.done
            finally:
                transport.abort()
        return parse_bootstrap_untrusted(body, host)


class _Answer(asyncio.Protocol):
    """Collects one small HTTP response."""

    def __init__(self) -> None:
        self._data = b""
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._data += data
        self._parse(eof=False)

    def eof_received(self) -> None:
        """No more come."""
        self._parse(eof=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """It broke, or we are done."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("no answer"))
            self.done.exception()  # whoever waits gets it; nobody may

    def _parse(self, *, eof: bool) -> None:
        if self.done.done():
            return
        try:
            if (split := split_head_untrusted(self._data[: 2 * MAX_BODY])) is None:
                return
            head, rest = split
            if head.status != 200:
                self.done.set_result(b"")  # no answer that parses
            elif (body := read_body_untrusted(head, rest, eof=eof)) is not None:
                self.done.set_result(body)
        except BadPacket as error:
            self.done.set_exception(error)
            self.done.exception()


async def _look_up(host: str) -> tuple[IPAddress, ...]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(
        dict.fromkeys(ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found)
    )
