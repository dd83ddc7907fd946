"""HTTP proxies from the environment: which one is for a server, and how to ask it.

``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``, or the same in lower case, as most programs read
them; loopback is never proxied.  For the control server as well as for relays.

Source: golang.org/x/net/http/httpproxy; RFC 9110 section 9.3.6.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from urllib.parse import unquote, urlsplit

from tailnet.agent.addr import IPAddress
from tailnet.agent.errors import BadPacket, RemoteProtocolError, UserError
from tailnet.agent.tailcfg.codec import ip_or_none

LOGIN_WANTED = 407  # HTTP status
MAX_HEAD = 16 << 10  # bytes of a proxy's answer


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; ``credentials`` are for a header, empty if it wants none."""

    host: str
    port: int
    tls: bool
    credentials: str = ""

    @property
    def url(self) -> str:
        """For people: without credentials."""
        return f"{'https' if self.tls else 'http'}://{_authority(self.host, self.port)}"


def proxy_for(host: str, port: int, *, tls: bool, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy through which to reach a server; ``None``: go there directly.

    Raises:
        UserError: the environment names one that cannot be used.
    """
    names = ("HTTPS_PROXY", "https_proxy") if tls else ("HTTP_PROXY", "http_proxy")
    text = next((environ[name] for name in names if environ.get(name)), "")
    if not text or bypasses(host, port, environ.get("NO_PROXY") or environ.get("no_proxy") or ""):
        return None
    return parse_proxy(text, names[0])


def parse_proxy(text: str, name: str) -> Proxy:
    """A proxy as variable ``name`` gives it.

    Raises:
        UserError: not the URL of an HTTP proxy.
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"{name} is not the URL of an HTTP proxy: give http://host:port"
        raise UserError(msg)
    credentials = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = base64.b64encode(pair.encode()).decode()
    tls = parts.scheme == "https"
    return Proxy(parts.hostname, port or (443 if tls else 80), tls, credentials)


def bypasses(host: str, port: int, no_proxy: str) -> bool:
    """True if the host is on the list of those that need no proxy, or is this machine."""
    host = host.lower().rstrip(".")
    ip = ip_or_none(host)
    if host == "localhost" or (ip is not None and ip.is_loopback):
        return True
    return any(_covers(item.strip().lower(), host, ip, port) for item in no_proxy.split(","))


def _covers(item: str, host: str, ip: IPAddress | None, port: int) -> bool:
    """One item of the list: ``*``, a network, an address, or a domain, maybe with a port."""
    if item == "*":
        return True
    if item.count(":") == 1 or "]:" in item:
        item, _, suffix = item.rpartition(":")
        if suffix != str(port):
            return False
    item = item.strip("[]")
    if ip is not None:
        try:
            return ip in ip_network(item, strict=False)
        except ValueError:
            return False
    domain = item.removeprefix("*").removeprefix(".")
    return bool(domain) and (host.endswith(f".{domain}") or host == item)


def connect_request(host: str, port: int, credentials: str) -> bytes:
    """``CONNECT host:port``."""
    where = _authority(host, port)
    login = f"Proxy-Authorization: Basic {credentials}\r\n" if credentials else ""
    return f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{login}\r\n".encode()


def login_wanted(proxy: str) -> str:
    """For people: what a proxy at this URL complains of."""
    return f"the proxy {proxy} wants a user name and a password"


class Tunnel:
    """Reads a proxy's answer to CONNECT, byte by byte: what follows it belongs to the server."""

    def __init__(self, proxy: str) -> None:
        self._proxy = proxy
        self._buffer = b""

    def receive_untrusted(self, data: bytes) -> bool:
        """True once the tunnel is open.

        Raises:
            BadPacket: it does not speak HTTP.
            RemoteProtocolError: it refuses; the text says why.
        """
        self._buffer += data
        status = self._buffer[9:12]
        if len(self._buffer) > MAX_HEAD or not b"HTTP/1.".startswith(self._buffer[:7]):
            msg = f"the proxy {self._proxy} does not speak HTTP"
            raise BadPacket(msg)
        if not self._buffer.endswith(b"\r\n\r\n"):
            return False
        if status == b"%d" % LOGIN_WANTED:
            raise RemoteProtocolError(login_wanted(self._proxy))
        if not (status.isdigit() and status.startswith(b"2")):
            msg = f"the proxy {self._proxy} refuses: {status.decode('ascii', 'replace')}"
            raise RemoteProtocolError(msg)
        return True


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
