"""The shell that opens streams: addresses in a race, proxies, TLS."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tailnet.agent.addr import IPAddress
from tailnet.agent.control.dialplan import Attempt
from tailnet.agent.control.race.aio import race, reason
from tailnet.agent.control.resolve.aio import Resolver
from tailnet.agent.derp.proxy import Proxy, Tunnel, connect_request, proxy_for
from tailnet.agent.tailcfg.codec import ip_or_none

ADDRESS_DELAY = 0.3  # seconds between addresses of one name; RFC 8305 section 5
READ_SIZE = 16 << 10  # bytes
# A login that waits for a person is silent for hours; what forgets idle flows must not.
KEEP_ALIVE = (
    (socket.TCP_KEEPIDLE, 30),  # seconds
    (socket.TCP_KEEPINTVL, 15),  # seconds
    (socket.TCP_KEEPCNT, 4),
)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Reacher:
    """Opens streams past whatever is between us and a server.

    Args:
        mark: called on every socket before it connects.
        environ: names of proxies, as in the environment.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        mark: Callable[[socket.socket], None],
        environ: Mapping[str, str],
    ) -> None:
        self._resolver = resolver
        self._mark = mark
        self._environ = environ
        self._worked: set[IPAddress] = set()

    def proxy(self, attempt: Attempt) -> Proxy | None:
        """The proxy for an attempt; one to a given address needs none.

        Raises:
            UserError: the environment names one that cannot be used.
        """
        if attempt.ip is not None:
            return None
        return proxy_for(attempt.host, attempt.port, tls=attempt.tls, environ=self._environ)

    async def open(self, attempt: Attempt, tls: ssl.SSLContext | None) -> Streams:
        """A stream to the server, through a tunnel if there is a proxy.

        Raises:
            OSError: not to be reached.
            TailnetError: the proxy refuses.
        """
        proxy = self.proxy(attempt)
        if proxy is None:
            return await self._open_direct(attempt, tls)
        streams = await self.open_proxy(proxy)
        return await self.tunnel(streams, proxy.url, attempt, tls, proxy.credentials)

    async def open_proxy(self, proxy: Proxy) -> Streams:
        """A stream to a proxy.

        Raises:
            OSError: not to be reached; the text says that it is the proxy.
        """
        context = ssl.create_default_context() if proxy.tls else None
        try:
            addresses = await self._resolver.resolve(proxy.host)
            return await self._race(addresses, proxy.port, context, proxy.host)
        except OSError as error:
            msg = f"the proxy {proxy.url}: {reason(error)}"
            raise OSError(msg) from None

    async def tunnel(
        self,
        streams: Streams,
        name: str,
        attempt: Attempt,
        tls: ssl.SSLContext | None,
        credentials: str,
    ) -> Streams:
        """Let a proxy connect ``streams`` to the server.

        Raises:
            OSError: it hangs up.
            TailnetError: it refuses.
        """
        reader, writer = streams
        try:
            writer.write(connect_request(attempt.host, attempt.port, credentials))
            tunnel = Tunnel(name)
            # One byte at a time: what follows the head is the server's.
            while not tunnel.receive_untrusted(await reader.readexactly(1)):
                pass
            if tls is not None:
                await writer.start_tls(tls, server_hostname=attempt.host)
        except asyncio.IncompleteReadError:
            writer.transport.abort()
            msg = f"the proxy {name} closed the connection"
            raise ConnectionResetError(msg) from None
        except BaseException:  # cancelled, too: nobody else knows the socket, and it goes on
            writer.transport.abort()
            raise
        return reader, writer

    async def _open_direct(self, attempt: Attempt, tls: ssl.SSLContext | None) -> Streams:
        host, port = attempt.host, attempt.port
        if attempt.ip is not None:
            return await self._open_address(attempt.ip, port, tls, host)
        addresses = await self._resolver.resolve(host)
        try:
            return await self._race(addresses, port, tls, host)
        except OSError:
            if ip_or_none(host) is not None or not self._worked.isdisjoint(addresses):
                raise
            # The system's DNS may have lied; whoever is there is not our server.
            others = tuple(
                ip for ip in await self._resolver.ask_relays(host) if ip not in addresses
            )
            if not others:
                raise
            return await self._race(others, port, tls, host)

    async def _race(
        self, addresses: Sequence[IPAddress], port: int, tls: ssl.SSLContext | None, host: str
    ) -> Streams:
        def starter(ip: IPAddress) -> Callable[[], Awaitable[Streams]]:
            return lambda: self._open_address(ip, port, tls, host)

        return await race(
            [(ADDRESS_DELAY * i, starter(ip)) for i, ip in enumerate(addresses)],
            discard=lambda streams: streams[1].transport.abort(),
        )

    async def _open_address(
        self, ip: IPAddress, port: int, tls: ssl.SSLContext | None, host: str
    ) -> Streams:
        sock = socket.socket(
            socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_STREAM
        )
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEP_ALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            self._mark(sock)
            await asyncio.get_running_loop().sock_connect(sock, (str(ip), port))
            name = host if tls is not None else None
            streams = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name)
        except BaseException:  # cancelled, too: nobody else knows the socket, and it goes on
            sock.close()
            raise
        self._worked.add(ip)
        return streams
