"""A mapping by UPnP: descriptions are fetched, services asked, one chosen.

::

    description of each gateway ─► services ─► status and external address of each
        ─► the best: connected and public, connected, any ─► (Add | AddAny)PortMapping
        ─► once more without a lease time where the router knows none

Source: tailscale net/portmapper/upnp.go.
"""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import NamedTuple

from tailnet.agent.errors import BadPacket
from tailnet.agent.portmap.ask import Denied, Granted
from tailnet.agent.portmap.interface import Network
from tailnet.agent.portmap.upnp import (
    INVALID_ARGS,
    NOT_AUTHORIZED,
    ONLY_PERMANENT,
    Fault,
    Service,
    at_gateway,
    call,
    number,
    result_untrusted,
    services_untrusted,
)

LEASE = 7200  # seconds
MAX_SERVICES = 6  # asked
MAX_TRIES = 3  # ports, where one is taken
DESCRIPTION = "tailnet-portmap"  # what people see in the router's list
_LOWEST = 1024  # ports below need privilege at some routers


class Post(NamedTuple):
    """An HTTP request; without ``action`` a GET.  The answer is given back with ``ticket``."""

    ticket: int
    url: str
    action: str
    body: bytes


class _Candidate:
    """A service, and what it said."""

    __slots__ = ("connected", "ip", "service")

    def __init__(self, service: Service) -> None:
        self.service = service
        self.connected = False
        self.ip: IPv4Address | None = None

    def rank(self) -> tuple[bool, bool]:
        """Higher is better."""
        return self.connected, self.ip is not None and self.ip.is_global


def removal(service: Service, port: int) -> Post:
    """Remove a mapping; nobody waits for the answer."""
    arguments = {"NewRemoteHost": "", "NewExternalPort": port, "NewProtocol": "UDP"}
    action, body = call(service, "DeletePortMapping", arguments)
    return Post(0, service.control_url, action, body)


class AskIgd:
    """One attempt.

    Args:
        locations: URLs of descriptions, the best first.
        network: the gateway, which alone is ever asked, and our own address.
        internal: our port.
        wished: the port outside; 0 takes any.
        random_bytes: source of randomness.
        ticket: numbers requests; never 0.

    Attributes:
        result: how it ended, once it has.
    """

    def __init__(  # noqa: PLR0913 - what is known, what is wished, and two sources of numbers
        self,
        locations: Sequence[str],
        network: Network,
        internal: int,
        wished: int,
        *,
        random_bytes: Callable[[int], bytes],
        ticket: Callable[[], int],
    ) -> None:
        self.result: Granted | Denied | None = None
        self._gateway = str(network.gateway)
        self._own = network.own
        self._internal = internal
        self._random_bytes = random_bytes
        self._ticket = ticket
        self._port = wished or self._any_port()
        self._lease = LEASE
        self._tries = 0
        self._posts: list[Post] = []
        self._waiting: dict[int, tuple[str, _Candidate | None]] = {}
        self._candidates: list[_Candidate] = []
        self._chosen: _Candidate | None = None
        for url in locations:
            self._get(url)
        self._settle()

    def take_posts(self) -> list[Post]:
        """Requests to make."""
        posts, self._posts = self._posts, []
        return posts

    def handle_answer_untrusted(self, ticket: int, url: str, status: int, body: bytes) -> None:
        """What came of a request; ``status`` 0: nothing, so ``body`` is empty.

        Raises:
            BadPacket: it makes no sense; that was taken into account.
        """
        if ticket not in self._waiting or self.result is not None:
            return
        what, candidate = self._waiting.pop(ticket)
        result: dict[str, str] | Fault = Fault(0)
        try:
            if candidate is not None:
                result = result_untrusted(body) if status else Fault(0)
            elif status == 200:
                self._learn(services_untrusted(body, url, self._gateway))
        finally:
            if candidate is not None:
                self._take(what, candidate, result)
            self._settle()

    def _learn(self, services: list[Service]) -> None:
        known = {candidate.service for candidate in self._candidates}
        for service in services:
            if service in known or len(self._candidates) >= MAX_SERVICES:
                continue
            candidate = _Candidate(service)
            self._candidates.append(candidate)
            self._call(candidate, "GetStatusInfo", {})
            self._call(candidate, "GetExternalIPAddress", {})

    def _take(self, what: str, candidate: _Candidate, result: dict[str, str] | Fault) -> None:
        if what in {"AddPortMapping", "AddAnyPortMapping"}:
            self._added(candidate, result)
        elif isinstance(result, Fault):
            return
        elif what == "GetStatusInfo":
            candidate.connected = result.get("NewConnectionStatus") == "Connected"
        else:
            candidate.ip = _address(result.get("NewExternalIPAddress", ""))

    def _settle(self) -> None:
        """When every question is answered, choose and map, or give up."""
        if self._waiting or self.result is not None or self._chosen is not None:
            return
        usable = [candidate for candidate in self._candidates if candidate.ip is not None]
        if not usable:
            found = "no address outside" if self._candidates else "no service that maps ports"
            self.result = Denied(f"the gateway has {found}")
            return
        self._chosen = max(usable, key=_Candidate.rank)
        self._add(self._chosen)

    def _add(self, candidate: _Candidate) -> None:
        arguments = {
            "NewRemoteHost": "",
            "NewExternalPort": self._port,
            "NewProtocol": "UDP",
            "NewInternalPort": self._internal,
            "NewInternalClient": self._own,
            "NewEnabled": 1,
            "NewPortMappingDescription": DESCRIPTION,
            "NewLeaseDuration": self._lease,
        }
        name = "AddAnyPortMapping" if candidate.service.any_port else "AddPortMapping"
        self._call(candidate, name, arguments)

    def _added(self, candidate: _Candidate, result: dict[str, str] | Fault) -> None:
        if not isinstance(result, Fault):
            port = number(result.get("NewReservedPort", "")) or self._port
            if candidate.ip is not None and port <= 0xFFFF:
                self.result = Granted(candidate.ip, port, self._lease, service=candidate.service)
                return
        elif result.code in {ONLY_PERMANENT, INVALID_ARGS} and self._lease:
            self._lease = 0
            self._add(candidate)
            return
        elif result.code in {0, NOT_AUTHORIZED}:
            self._tries = MAX_TRIES
        self._tries += 1
        if self._tries >= MAX_TRIES:
            code = result.code if isinstance(result, Fault) else 0
            self.result = Denied(f"refused, error {code}" if code else "no sensible answer")
            return
        self._port = self._any_port()
        self._add(candidate)

    def _any_port(self) -> int:
        return _LOWEST + int.from_bytes(self._random_bytes(4), "big") % (0x10000 - _LOWEST)

    def _get(self, url: str) -> None:
        try:
            here = at_gateway(url, self._gateway)
        except BadPacket:
            return
        self._posts.append(Post(self._wait("description", None), here, "", b""))

    def _call(self, candidate: _Candidate, action: str, arguments: dict[str, object]) -> None:
        header, body = call(candidate.service, action, arguments)
        ticket = self._wait(action, candidate)
        self._posts.append(Post(ticket, candidate.service.control_url, header, body))

    def _wait(self, what: str, candidate: _Candidate | None) -> int:
        ticket = self._ticket()
        self._waiting[ticket] = what, candidate
        return ticket


def _address(text: str) -> IPv4Address | None:
    try:
        ip = IPv4Address(text)
    except ValueError:
        return None
    return None if ip.is_unspecified or ip.is_loopback or ip.is_multicast else ip
