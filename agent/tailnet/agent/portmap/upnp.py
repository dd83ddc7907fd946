"""UPnP IGD: the gateway's description, and the calls that make and remove a mapping.

XML is read by expat with document types refused, so there are no entities to expand; depth and size
are bounded.

Source: UPnP WANIPConnection:1 and :2 service templates; tailscale net/portmapper/upnp.go.
"""

from collections.abc import Mapping
from contextlib import suppress
from html import escape
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit
from xml.parsers import expat

from tailnet.agent.errors import BadPacket

MAX_DOCUMENT = 64 << 10  # bytes
_MAX_DEPTH = 32
_MAX_SERVICES = 64
_MAX_TEXT = 4096  # characters of one element

ONLY_PERMANENT, INVALID_ARGS = 725, 402  # errors of a router that knows no lease times
NOT_AUTHORIZED = 606

SERVICES = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
"""Those that can map, the best first."""


class Service(NamedTuple):
    """Something a gateway can be asked: its type, and the URL to post to."""

    type: str
    control_url: str

    @property
    def any_port(self) -> bool:
        """It can choose another port itself when the wished one is taken."""
        return self.type == SERVICES[0]


class Fault(NamedTuple):
    """The gateway refused; ``code`` is its number, 0 if it gave none."""

    code: int


Element = tuple[tuple[str, ...], str]
"""Path of local names, and the text."""


def elements_untrusted(data: bytes) -> list[Element]:
    """Every element, in the order of their ends.

    Raises:
        BadPacket: not XML, too large, too deep, or with a document type.
    """
    if len(data) > MAX_DOCUMENT:
        msg = "a UPnP document of more than 64 KiB"
        raise BadPacket(msg)
    try:
        return _Reader("utf-8").read(data)
    except expat.ExpatError:
        pass
    try:
        return _Reader("iso-8859-1").read(data)  # names of makers in their own letters
    except expat.ExpatError:
        msg = "not XML"
        raise BadPacket(msg) from None


class _Reader:
    """Reads one document.  ``encoding`` is not the document's to choose: no codec is looked up."""

    def __init__(self, encoding: str) -> None:
        self._path: list[str] = []
        self._texts: list[list[str]] = []
        self._found: list[Element] = []
        self._parser = expat.ParserCreate(encoding)
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._refuse

    def read(self, data: bytes) -> list[Element]:
        self._parser.Parse(data, True)
        return self._found

    def _start(self, name: str, _: Mapping[str, str]) -> None:
        if len(self._path) >= _MAX_DEPTH:
            msg = "a UPnP document that is nested too deeply"
            raise BadPacket(msg)
        self._path.append(name.rpartition(":")[2])
        self._texts.append([])

    def _text(self, text: str) -> None:
        self._texts[-1].append(text)

    def _end(self, _: str) -> None:
        text = "".join(self._texts.pop()).strip()[:_MAX_TEXT]
        self._found.append((tuple(self._path), text))
        self._path.pop()

    def _refuse(self, *_: object) -> None:
        msg = "a UPnP document with a document type"
        raise BadPacket(msg)


def services_untrusted(description: bytes, location: str, gateway: str) -> list[Service]:
    """Services that can map, the best first.

    Args:
        description: the document at ``location``.
        location: its URL; relative URLs in it are completed by this or by its ``URLBase``.
        gateway: address of the gateway: whatever host is named, this one is asked.

    Raises:
        BadPacket: not a description.
    """
    base, kind, control = location, "", ""
    found: list[tuple[str, str]] = []
    for path, text in elements_untrusted(description):
        last = path[-1]
        if last == "URLBase" and text:
            base = text
        elif last == "serviceType":
            kind = text
        elif last == "controlURL":
            control = text
        elif last == "service":
            if kind in SERVICES and len(found) < _MAX_SERVICES:
                found.append((kind, control))
            kind = control = ""
    services: list[Service] = []
    for kind, control in found:
        with suppress(BadPacket):
            services.append(Service(kind, at_gateway(_join(base, control), gateway)))
    return sorted(dict.fromkeys(services), key=lambda service: SERVICES.index(service.type))


def _join(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError:
        msg = "a UPnP address that makes no sense"
        raise BadPacket(msg) from None


def at_gateway(url: str, gateway: str) -> str:
    """The same URL at the gateway's address: nobody may send us elsewhere.

    Raises:
        BadPacket: not an HTTP URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme != "http" or not parts.hostname:
        msg = "a UPnP address that is not HTTP"
        raise BadPacket(msg)
    asked = parts.path + parts.query
    if not asked.isascii() or not asked.isprintable() or " " in asked:
        msg = "a UPnP address with odd characters"
        raise BadPacket(msg)
    return urlunsplit(("http", f"{gateway}:{port}", parts.path or "/", parts.query, ""))


def call(service: Service, action: str, arguments: Mapping[str, object]) -> tuple[str, bytes]:
    """Value of the ``SOAPAction`` header, and the body."""
    inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in arguments.items())
    body = (
        '<?xml version="1.0"?>'
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service.type}">{inner}</u:{action}>'
        "</s:Body></s:Envelope>"
    )
    return f'"{service.type}#{action}"', body.encode()


def result_untrusted(data: bytes) -> dict[str, str] | Fault:
    """What a call returned: values by name.

    Raises:
        BadPacket: not an answer to a call.
    """
    values: dict[str, str] = {}
    for path, text in elements_untrusted(data):
        if path[:2] != ("Envelope", "Body"):
            continue
        if path[-1] == "errorCode":
            return Fault(number(text))
        values[path[-1]] = text
    return Fault(0) if "faultcode" in values else values


def number(text: str) -> int:
    """A number of at most five digits; 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
