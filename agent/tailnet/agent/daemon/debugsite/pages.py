"""What the debug site has, and for whom; no sockets."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket

MAX_SECONDS = 60.0  # of a profile
USUAL_SECONDS = 10.0
HEADERS = {
    "Server": "tailnetd",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer of a site that shows text and is never part of another page."""

PAGES = {
    "/healthz": "200 while this machine is part of its tailnet, else 503; with state and warnings",
    "/metrics": "metrics of the node, for Prometheus",
    "/debug/metrics": "the same, with those of the process",
    "/debug/tasks": "what every task and thread is at",
    "/debug/profile?seconds=10": "where the event loop spends its time, for up to 60 s",
}


def parse_debug_address(text: str) -> AddrPort:
    """``[IP]:PORT``, ``localhost:PORT``; ``:PORT`` and ``PORT`` are on loopback.

    Raises:
        BadPacket: anything else.
    """
    host, _, port = text.rpartition(":")
    known = {"": "127.0.0.1", "localhost": "127.0.0.1"}
    return AddrPort.parse(f"{known.get(host, host)}:{port}")


def refuses_host(host: str) -> bool:
    """Whether a ``Host`` field may be of a web page that made its name point here (DNS rebinding).

    An address cannot, nor can ``localhost``.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return False
        ip_address(name)
    except ValueError:
        return True
    return False


def parse_seconds(text: str) -> float:
    """How long a profile is to be.

    Raises:
        BadPacket: not a number of seconds, or too many.
    """
    try:
        seconds = float(text or USUAL_SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_SECONDS:
        msg = f"'seconds' is a number up to {MAX_SECONDS:.0f}"
        raise BadPacket(msg)
    return seconds


def index(version: str) -> str:
    """A page with links."""
    rows = "".join(
        f'<li><a href="{path}">{path.partition("?")[0]}</a>: {about}</li>\n'
        for path, about in PAGES.items()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>tailnetd</title><h1>tailnetd {version}</h1>\n<ul>\n{rows}</ul></html>\n"
    )
