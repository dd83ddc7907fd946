"""SSDP: who in this network is an Internet gateway.  HTTP-like texts in UDP datagrams.

Source: UPnP Device Architecture 1.1 section 1.3.
"""

from typing import NamedTuple

from tailnet.agent.errors import BadPacket

PORT = 1900
GROUP = "239.255.255.250"
MAX_ANSWER = 4096  # bytes
MAX_URL = 512  # characters

_GATEWAY = "urn:schemas-upnp-org:device:InternetGatewayDevice:"
_TARGETS = ("ssdp:all", _GATEWAY + "1")


class Found(NamedTuple):
    """A gateway, and where its description is; ``version`` of the device type, 1 or 2."""

    location: str
    version: int


def searches() -> tuple[bytes, ...]:
    """The questions."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {GROUP}:{PORT}",
        "ST: {}",
        'MAN: "ssdp:discover"',
        "MX: 2",
        "",
        "",
    )
    return tuple("\r\n".join(lines).format(target).encode() for target in _TARGETS)


def parse_untrusted(data: bytes) -> Found | None:
    """An answer of a gateway; ``None``: of something else, which answers too.

    Raises:
        BadPacket: no answer, or without a usable address.
    """
    if len(data) > MAX_ANSWER or not data.startswith(b"HTTP/1.1 200"):
        msg = "no SSDP answer"
        raise BadPacket(msg)
    headers: dict[str, str] = {}
    for line in data.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    kind = f"{headers.get('st', '')} {headers.get('usn', '')}"
    location = headers.get("location", "")
    if _GATEWAY not in kind:
        return None
    if not location.startswith("http://") or len(location) > MAX_URL:
        msg = "a gateway without an address"
        raise BadPacket(msg)
    version = kind.partition(_GATEWAY)[2][:1]
    return Found(location, int(version) if version in ("1", "2") else 1)
