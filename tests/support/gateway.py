"""A gateway in virtual time: what RFC 6886, RFC 6887 and UPnP's templates say that one does."""

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address
from itertools import count
from struct import pack, unpack_from

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.portmap.actions import Note, SendUdp
from tailnet.agent.portmap.igd import Post
from tailnet.agent.portmap.interface import Network, Protocol
from tailnet.agent.portmap.mapper import ALL, Mapper
from tailnet.agent.portmap.search import Search
from tailnet.agent.portmap.upnp import SERVICES, number, result_untrusted

GATEWAY = IPv4Address("192.168.7.1")
OWN = IPv4Address("192.168.7.2")
OUTSIDE = IPv4Address("11.99.0.1")
NETWORK = Network(GATEWAY, OWN)
PORT = 41641
DESCRIPTION = "/rootDesc.xml"


class Gateway:
    """Keeps mappings for as long as it promised.

    Attributes:
        speaks: the protocols it answers in.
        longest: seconds of a lease, whatever is asked for.
        started: its clock's zero [s].
        mappings: by port outside: port inside, end [s], nonce.
        error: UPnP's, for mappings that have a lease time.
        taken: ports that are not given.
        outside: its other address.
        services: in its description.
        silent_calls: actions that are not answered.
        heard: everything that came, for counting.
    """

    def __init__(self, speaks: frozenset[Protocol] = ALL) -> None:
        self.speaks = speaks
        self.longest = 7200
        self.started = 0.0
        self.mappings: dict[int, tuple[int, float, bytes]] = {}
        self.error = 0
        self.taken: set[int] = set()
        self.outside = OUTSIDE
        self.services: tuple[str, ...] = (SERVICES[1],)
        self.silent_calls: set[str] = set()
        self.heard: list[str] = []

    def restart(self, now: float) -> None:
        """It forgets everything."""
        self.started = now
        self.mappings.clear()

    def leads_in(self, external: AddrPort, now: float) -> int:
        """The port inside that a datagram to this address arrives at; 0: none."""
        inside, end, _ = self.mappings.get(external.port, (0, 0.0, b""))
        return inside if now < end and external.ip == self.outside else 0

    def _map(self, inside: int, wished: int, lease: int, now: float, nonce: bytes = b"") -> int:
        if not lease:
            gone = [p for p, (i, _, n) in self.mappings.items() if (i, n) == (inside, nonce)]
            for port in gone:
                del self.mappings[port]
            return 0
        free = (p for p in count(wished or 30000) if p not in self.taken)
        same = (p for p, (i, _, n) in self.mappings.items() if (i, n) == (inside, nonce))
        port = next(same, 0) or next(free)
        self.mappings[port] = inside, now + min(lease, self.longest), nonce
        return port

    def udp(self, to: AddrPort, data: bytes, now: float) -> list[tuple[AddrPort, bytes]]:
        """Answers to a datagram, each with where it comes from."""
        epoch = int(now - self.started)
        if to.port == 1900:
            self.heard.append("search")
            if Protocol.UPNP not in self.speaks or to.ip != GATEWAY:
                return []
            text = (
                "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
                f"LOCATION: http://{GATEWAY}:5000{DESCRIPTION}\r\n\r\n"
            )
            return [(to, text.encode())]
        if data[0] == 0 and Protocol.PMP in self.speaks:
            if data[1] == 0:
                self.heard.append("pmp external")
                return [(to, pack("!BBHI", 0, 0x80, 0, epoch) + self.outside.packed)]
            _, inside, wished, lease = unpack_from("!HHHI", data, 2)
            self.heard.append("pmp map" if lease else "pmp delete")
            port = self._map(inside, wished, lease, now)
            given = min(lease, self.longest)
            return [(to, pack("!BBHIHHI", 0, 0x81, 0, epoch, inside, port, given))]
        if data[0] == 2 and Protocol.PCP in self.speaks:
            head = b"\x02" + bytes([data[1] | 0x80, 0, 0])
            lease = min(unpack_from("!I", data, 4)[0], self.longest)
            head += pack("!II12x", lease, epoch)
            if data[1] == 0:
                self.heard.append("pcp announce")
                return [(to, head)]
            nonce, (inside, wished) = data[24:36], unpack_from("!HH", data, 40)
            self.heard.append("pcp map" if lease else "pcp delete")
            port = self._map(inside, wished, lease, now, nonce)
            ip = bytes(10) + b"\xff\xff" + self.outside.packed
            return [(to, head + nonce + b"\x11\0\0\0" + pack("!HH", inside, port) + ip)]
        return []

    def http(self, post: Post, now: float) -> tuple[int, bytes]:
        """Status and body; 0 for silence."""
        assert post.url.startswith(f"http://{GATEWAY}:5000/")
        action = post.action.rpartition("#")[2].rstrip('"')
        self.heard.append(action or "description")
        if action in self.silent_calls or Protocol.UPNP not in self.speaks:
            return 0, b""
        if not action:
            entries = "".join(
                f"<service><serviceType>{kind}</serviceType><controlURL>/c</controlURL></service>"
                for kind in self.services
            )
            return 200, f"<root><device>{entries}</device></root>".encode()
        said = result_untrusted(post.body)
        assert isinstance(said, dict)
        match action:
            case "GetStatusInfo":
                return _result("NewConnectionStatus", "Connected")
            case "GetExternalIPAddress":
                return _result("NewExternalIPAddress", str(self.outside))
            case "DeletePortMapping":
                self.mappings.pop(number(said["NewExternalPort"]), None)
                return _result("", "")
        lease, port = int(said["NewLeaseDuration"]), number(said["NewExternalPort"])
        if self.error and lease:
            return _fault(self.error)
        if port in self.taken and action == "AddPortMapping":
            return _fault(718)
        while port in self.taken:
            port += 1
        inside = number(said["NewInternalPort"])
        assert said["NewInternalClient"] == str(OWN)
        self.mappings[port] = inside, now + lease if lease else float("inf"), b""
        return _result("NewReservedPort", str(port)) if "Any" in action else _result("", "")


def _envelope(inside: str) -> bytes:
    return f"<s:Envelope xmlns:s='x'><s:Body>{inside}</s:Body></s:Envelope>".encode()


def _result(name: str, value: str) -> tuple[int, bytes]:
    inside = f"<{name}>{value}</{name}>" if name else ""
    return 200, _envelope(f"<u:Response xmlns:u='y'>{inside}</u:Response>")


def _fault(code: int) -> tuple[int, bytes]:
    detail = f"<UPnPError><errorCode>{code}</errorCode></UPnPError>"
    return 500, _envelope(f"<s:Fault><faultcode>x</faultcode><detail>{detail}</detail></s:Fault>")


class House:
    """A mapper and its gateway, joined in virtual time.

    Attributes:
        now: seconds.
        delay: seconds for an answer.
        lost: says of a datagram whether it gets lost.
        notes: what the mapper told.
    """

    def __init__(
        self, speaks: frozenset[Protocol] = ALL, protocols: frozenset[Protocol] = ALL
    ) -> None:
        numbers = count(1)
        self.gateway = Gateway(speaks)
        self.mapper = Mapper(lambda n: next(numbers).to_bytes(n, "big"), protocols)
        self.now = 1000.0
        self.delay = 0.01
        self.lost: Callable[[], bool] = lambda: False
        self.notes: list[str] = []
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def begin(self) -> None:
        """On the network, with our port."""
        self.mapper.set_port(PORT, self.now)
        self.mapper.set_network(NETWORK, self.now)

    def says(self, protocol: Protocol) -> tuple[AddrPort, bytes]:
        """How a gateway that speaks ``protocol`` answers a search, and from where."""
        for to, data in Search.questions(NETWORK, {protocol}):
            for answer in Gateway(frozenset({protocol})).udp(to, data, self.now):
                return answer
        raise AssertionError

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            self.drain()
            wanted = self.mapper.next_timeout()
            times = [at for at, _, _ in self._coming] + ([] if wanted is None else [wanted])
            at = min(times, default=end)
            if at > end:
                self.now = end
                return
            self.now = max(self.now, at)
            due = sorted(each for each in self._coming if each[0] <= self.now)
            self._coming = [each for each in self._coming if each[0] > self.now]
            for _, _, deliver in due:
                deliver()
            self.mapper.handle_timeout(self.now)
            if at == end and not due and (wanted is None or wanted > end):
                self.drain()
                return

    def drain(self) -> None:
        """Carry out what the mapper wants."""
        while (action := self.mapper.poll_action()) is not None:
            match action:
                case Note(text):
                    self.notes.append(text)
                case SendUdp(to, data):
                    if self.lost():
                        continue
                    for src, answer in self.gateway.udp(to, data, self.now):
                        if not self.lost():
                            self._later(lambda s=src, a=answer: self._datagram(s, a))  # type: ignore[misc]
                case Post():
                    status, body = self.gateway.http(action, self.now)
                    if status:
                        self._later(lambda p=action, s=status, b=body: self._http(p, s, b))  # type: ignore[misc]

    def _later(self, deliver: Callable[[], None]) -> None:
        self._coming.append((self.now + self.delay, next(self._order), deliver))

    def _datagram(self, src: AddrPort, data: bytes) -> None:
        with suppress(BadPacket):
            self.mapper.handle_datagram_untrusted(src, data, self.now)

    def _http(self, post: Post, status: int, body: bytes) -> None:
        with suppress(BadPacket):
            self.mapper.handle_http_untrusted(post.ticket, post.url, status, body, self.now)

    @property
    def works(self) -> bool:
        """There is a mapping, and the gateway really has it."""
        external = self.mapper.portmap.external
        return external is not None and self.gateway.leads_in(external, self.now) == PORT
