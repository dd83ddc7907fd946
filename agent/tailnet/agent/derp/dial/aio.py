"""TCP and TLS to one relay of a region.

Source: tailscale derp/derphttp/derphttp_client.go (dialRegion, dialNode, tlsClient).
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from tailnet.agent.crypto.certificate import check_name_untrusted, check_pin_untrusted
from tailnet.agent.derp.proxy import Proxy, Tunnel, connect_request, proxy_for
from tailnet.agent.derp.tls import aio as tls
from tailnet.agent.derp.upgrade import encode_request
from tailnet.agent.errors import BadPacket, RemoteProtocolError, TailnetError
from tailnet.agent.tailcfg.derpmap import DEFAULT_DERP_PORT, DERPNode, DERPRegion

NODE_TIMEOUT = 1.5  # s per node for TCP, names included; derphttp_client.go dialNodeTimeout
PROXY_TIMEOUT = 5.0  # s per node through a proxy, which has to connect as well
PLAIN_HTTP_PORT = 3340  # what a relay without certificate listens on in a lab
PIN = "sha256-raw:"
MAX_ADDRESSES = 4  # raced per node
HEAD_START = 0.2  # s that IPv6 has where it is known to work


class Dialer:
    """How this machine reaches relays.

    Attributes:
        ipv6_works: the last measurement had answers over IPv6, which then is tried first.
    """

    def __init__(
        self,
        *,
        mark: Callable[[socket.socket], None],
        wall: Callable[[], datetime],
        ca_file: str | None,
        plain_http: bool,
        environ: Mapping[str, str],
    ) -> None:
        """What all connections have in common.

        Args:
            mark: makes a socket bypass the tunnel; called before it connects.
            wall: UTC time, for certificates.
            ca_file: PEM file of roots that count besides the system's.
            plain_http: speak HTTP without TLS, for labs.
            environ: names of proxies, as in the environment.
        """
        self._mark = mark
        self._environ = environ
        self._wall = wall
        self._ca_file = ca_file
        self._buffer = memoryview(bytearray(tls.READ_SIZE))
        self._contexts: dict[tuple[bool, bool], ssl.SSLContext] = {}
        self.plain_http = plain_http
        self.ipv6_works = False

    def port(self, node: DERPNode) -> int:
        """TCP port of a node."""
        return node.derp_port or (PLAIN_HTTP_PORT if self.plain_http else DEFAULT_DERP_PORT)

    def host(self, node: DERPNode) -> str:
        """Value of its Host header."""
        name = f"[{node.host_name}]" if ":" in node.host_name else node.host_name
        default = 80 if self.plain_http else DEFAULT_DERP_PORT
        port = self.port(node)
        return name if port == default else f"{name}:{port}"

    async def connect(self, region: DERPRegion) -> tuple[DERPNode, socket.socket, bytes]:
        """TCP to the first node that answers, in the order of the map.

        Returns:
            The node, a connected socket, and the request to begin with.

        Raises:
            OSError: none answers.
            BadPacket: the map has a name that cannot be asked for.
        """
        failure = OSError("the region has no relay")
        nodes = [node for node in region.nodes or () if not node.stun_only]
        for node in nodes:
            ideal = "" if node is nodes[0] else nodes[0].name
            request = encode_request(self.host(node), ideal)
            try:
                return node, await self._reach(node), request
            except OSError as error:
                failure = error
        raise failure

    async def _reach(self, node: DERPNode) -> socket.socket:
        """A stream to the node, through a proxy if the environment names one.

        Raises:
            OSError: not to be reached; the text says if it is the proxy.
        """
        port, tls = self.port(node), not self.plain_http
        try:
            proxy = proxy_for(node.host_name, port, tls=tls, environ=self._environ)
            if proxy is None:
                async with asyncio.timeout(NODE_TIMEOUT):
                    return await self._connect_node(node)
            async with asyncio.timeout(PROXY_TIMEOUT):
                return await self._tunnel(proxy, node.host_name, port)
        except TailnetError as error:
            raise OSError(str(error)) from None

    async def _tunnel(self, proxy: Proxy, host: str, port: int) -> socket.socket:
        if proxy.tls:
            msg = f"the proxy {proxy.url} is reached over TLS, which relays cannot use"
            raise RemoteProtocolError(msg)
        addresses = await _resolve(proxy.host, proxy.port, socket.AF_UNSPEC, optional=False)
        loop = asyncio.get_running_loop()
        sock = await self._race(addresses)
        try:
            await loop.sock_sendall(sock, connect_request(host, port, proxy.credentials))
            tunnel = Tunnel(proxy.url)
            while data := await loop.sock_recv(sock, 1):  # what follows is the relay's
                if tunnel.receive_untrusted(data):
                    return sock
        except BaseException:
            sock.close()
            raise
        sock.close()
        msg = f"the proxy {proxy.url} closed the connection"
        raise RemoteProtocolError(msg)

    async def _connect_node(self, node: DERPNode) -> socket.socket:
        port = self.port(node)
        addresses = [
            *_literal(node.ipv6, IPv6Address, socket.AF_INET6, port),
            *_literal(node.ipv4, IPv4Address, socket.AF_INET, port),
        ]
        families = [
            family
            for family, given in ((socket.AF_INET6, node.ipv6), (socket.AF_INET, node.ipv4))
            if not given
        ]
        if families and not (addresses and _is_ip(node.host_name)):
            family = families[0] if len(families) == 1 else socket.AF_UNSPEC
            addresses += await _resolve(node.host_name, port, family, optional=bool(addresses))
        if not addresses:
            msg = "the relay has no address"
            raise OSError(msg)
        return await self._race(addresses)

    async def _race(self, addresses: "list[Address]") -> socket.socket:
        head_start = HEAD_START if self.ipv6_works else 0.0
        return await race(addresses[:MAX_ADDRESSES], self._mark, head_start)

    async def secure(
        self,
        sock: socket.socket,
        node: DERPNode,
        protocol: asyncio.Protocol,
    ) -> asyncio.Transport:
        """Attach ``protocol`` to a connected socket, over TLS unless we speak plain HTTP.

        Args:
            sock: is owned from here on.
            node: its names and pin say what certificate is right.
            protocol: receives the stream, when the certificate was checked.

        Raises:
            OSError: TLS failed.
            RemoteProtocolError: it is the wrong certificate.
        """
        if self.plain_http:
            loop = asyncio.get_running_loop()
            plain, _ = await loop.create_connection(lambda: protocol, sock=sock)
            return plain
        pinned = node.cert_name.startswith(PIN)
        chain = not (pinned or node.insecure_for_tests)
        own_name = chain and bool(node.cert_name)
        context = self._context(chain=chain, name=chain and not own_name)
        transport = await tls.connect(sock, context, node.host_name, self._buffer)
        try:
            if pinned:
                # Only the server's own certificate counts: whatever else it sends, such as the
                # certificate that announces its DERP key, is not looked at.
                pin = node.cert_name[len(PIN) :]
                check_pin_untrusted(transport.certificate, pin, node.host_name, self._wall())
            elif own_name:
                check_name_untrusted(transport.certificate, node.cert_name)
        except BadPacket as error:
            transport.abort()
            raise RemoteProtocolError(str(error)) from None
        transport.begin(protocol)
        return transport

    def _context(self, *, chain: bool, name: bool) -> ssl.SSLContext:
        """TLS 1.2 or later, checking what is asked; made once, since roots take time to read."""
        context = self._contexts.get((chain, name))
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.check_hostname = name
            context.verify_mode = ssl.CERT_REQUIRED if chain else ssl.CERT_NONE
            if chain:
                context.load_default_certs()
                if self._ca_file is not None:
                    context.load_verify_locations(self._ca_file)
            self._contexts[chain, name] = context
        return context


def reason(error: Exception) -> str:
    """Why a relay is not reached, or does not let us in, in words for people."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"it does not speak TLS: {error.reason or error}"
        case OSError() if error.errno and not isinstance(error, socket.gaierror):
            return os.strerror(error.errno)  # asyncio has other words
        case _:
            return str(error) or "timed out"


Address = tuple[socket.AddressFamily, tuple[str, int]]


def _literal(
    text: str,
    kind: type[IPv4Address] | type[IPv6Address],
    family: socket.AddressFamily,
    port: int,
) -> list[Address]:
    try:
        return [(family, (str(kind(text)), port))]
    except AddressValueError:
        return []  # empty is for the resolver; anything else switches the family off


def _is_ip(text: str) -> bool:
    return bool(
        _literal(text, IPv4Address, socket.AF_INET, 0)
        or _literal(text, IPv6Address, socket.AF_INET6, 0)
    )


async def _resolve(
    name: str, port: int, family: socket.AddressFamily, *, optional: bool
) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, port, family=family, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        if optional:
            return []
        msg = f"cannot resolve the relay's name: {error}"
        raise OSError(msg) from None
    return [(kind, (str(address[0]), port)) for kind, _, _, _, address in found]


class _Lead:
    """Lets IPv6 go first."""

    def __init__(self, addresses: list[Address], seconds: float) -> None:
        self._seconds = seconds
        self._ahead = [each for each in addresses if seconds and each[0] == socket.AF_INET6]
        self._over = asyncio.Event()

    async def wait(self, address: Address) -> None:
        """Until it is time for this address."""
        if self._ahead and address not in self._ahead:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._over.wait()

    def failed(self, address: Address) -> None:
        """Nothing more is to be expected of it."""
        if address in self._ahead:
            self._ahead.remove(address)
            if not self._ahead:
                self._over.set()


async def race(
    addresses: list[Address], mark: Callable[[socket.socket], None], head_start: float = 0.0
) -> socket.socket:
    """The first socket that connects; the others are closed.

    IPv4 waits ``head_start`` seconds for IPv6, unless that fails earlier or is not there.

    Raises:
        OSError: none does.
    """
    won: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
    errors: list[OSError] = []
    lead = _Lead(addresses, head_start)

    async def attempt(address: Address) -> None:
        try:
            await lead.wait(address)
            sock = await _connect(address, mark)
        except OSError as error:
            errors.append(error)
            lead.failed(address)
            return
        if won.done():
            sock.close()
            return
        won.set_result(sock)
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()

    tasks: list[asyncio.Task[None]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(attempt(address)) for address in addresses]
    except asyncio.CancelledError:
        if won.done():
            won.result().close()
        raise
    if not won.done():
        raise errors[0]
    return won.result()


async def _connect(address: Address, mark: Callable[[socket.socket], None]) -> socket.socket:
    family, target = address
    with contextlib.closing(
        socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    ) as sock:
        mark(sock)
        await asyncio.get_running_loop().sock_connect(sock, target)
        return socket.socket(fileno=sock.detach())
