"""SOCKS5, the server's side (RFC 1928): CONNECT and UDP ASSOCIATE, no authentication.

::

    greeting   05 | n | n methods                       → 05 | method, FF for none
    request    05 | command | 00 | address | port       → 05 | reply | 00 | address | port
    datagram   00 00 | fragment | address | port | payload
    address    01 | 4 bytes     03 | length | name      04 | 16 bytes
"""

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, unmap
from tailnet.agent.errors import BadPacket
from tailnet.agent.netstack.interface import Associate, Connect, DialError, Failure

VERSION = 5
NO_AUTHENTICATION, NO_METHOD = 0, 0xFF
CONNECT, ASSOCIATE = 1, 3
IPV4, NAME, IPV6 = 1, 3, 4
SUCCEEDED, GENERAL, RULES, NETWORK, HOST, REFUSED, TTL, COMMAND, ADDRESS = range(9)

_REPLIES = {
    Failure.NO_NAME: HOST,
    Failure.NO_PEER: HOST,
    Failure.REFUSED: REFUSED,
    Failure.POLICY: RULES,
    Failure.PROHIBITED: RULES,
    Failure.UNREACHABLE: NETWORK,
    Failure.TIMED_OUT: TTL,
    Failure.BUSY: GENERAL,
}
_NOWHERE = AddrPort(IPv4Address(0), 0)


class Target(NamedTuple):
    """A name or literal address, and a port."""

    host: str
    port: int


class Datagram(NamedTuple):
    """One datagram of an association: to, or from, ``target``."""

    target: Target
    payload: bytes


class BadAddress(BadPacket):
    """An address type that does not exist; it has a reply of its own."""


def parse_target_untrusted(data: bytes) -> tuple[Target, int] | None:
    """An address and port at the start of ``data``, and their length; ``None`` if incomplete.

    Raises:
        BadAddress: an unknown type.
        BadPacket: a name that is none.
    """
    if not data:
        return None
    if data[0] == NAME:
        start, size = 2, data[1] if len(data) > 1 else 255
    elif data[0] in (IPV4, IPV6):
        start, size = 1, 4 if data[0] == IPV4 else 16
    else:
        msg = "unknown address type"
        raise BadAddress(msg)
    end = start + size + 2
    if len(data) < end:
        return None
    raw = data[start : start + size]
    port = int.from_bytes(data[end - 2 : end])
    if data[0] == NAME:
        if not raw.isascii() or not raw.decode().isprintable() or not raw.strip(b" ."):
            msg = "not a host name"
            raise BadPacket(msg)
        host = raw.decode()
    else:
        host = str(unmap(IPv4Address(raw) if size == 4 else IPv6Address(raw)))
    return Target(host, port), end


def parse_datagram_untrusted(data: bytes) -> Datagram:
    """One datagram from the client.

    Raises:
        BadPacket: damaged, or a fragment, which nobody sends.
    """
    if len(data) < 4 or data[:3] != bytes(3):
        msg = "not a SOCKS5 datagram"
        raise BadPacket(msg)
    found = parse_target_untrusted(data[3:])
    if found is None:
        msg = "short SOCKS5 datagram"
        raise BadPacket(msg)
    target, end = found
    return Datagram(target, data[3 + end :])


def encode_address(address: AddrPort) -> bytes:
    """Type, address and port."""
    kind = IPV4 if address.ip.version == 4 else IPV6
    return bytes((kind,)) + address.ip.packed + address.port.to_bytes(2)


def encode_datagram(source: AddrPort, payload: bytes) -> bytes:
    """One datagram for the client."""
    return bytes(3) + encode_address(source) + payload


class Socks5:
    """One connection, until bytes flow."""

    def __init__(self) -> None:
        self.early = b""
        self.closed = False
        self._greeted = self._asked = False
        self._out: list[bytes] = []
        self._event: Connect | Associate | None = None

    def handle_data(self, data: bytes) -> None:
        """Bytes of the client; after its request they are kept in ``early``."""
        self.early += data
        if not self._greeted:
            self._greet()
        if self._greeted and not self._asked:
            try:
                self._ask()
            except BadAddress:
                self._refuse(ADDRESS)
            except BadPacket:
                self._refuse(GENERAL)

    def _greet(self) -> None:
        data = self.early
        if data[:1] != bytes((VERSION,))[: len(data)]:
            self.closed = True
        if self.closed or len(data) < 2 or len(data) < 2 + data[1]:
            return
        methods, self.early = data[2 : 2 + data[1]], data[2 + data[1] :]
        if NO_AUTHENTICATION in methods:
            self._greeted = True
            self._out.append(bytes((VERSION, NO_AUTHENTICATION)))
        else:
            self._out.append(bytes((VERSION, NO_METHOD)))
            self.closed = True

    def _ask(self) -> None:
        data = self.early
        if self.closed or not data:
            return
        if data[0] != VERSION:
            self.closed = True
            return
        found = parse_target_untrusted(data[3:])
        if found is None:
            return
        target, end = found
        self._asked = True
        self.early = data[3 + end :]
        if data[1] == CONNECT:
            self._event = Connect(*target)
        elif data[1] == ASSOCIATE:
            self._event = Associate()
        else:
            self._refuse(COMMAND)

    def handle_connected(self, bound: AddrPort) -> None:
        """Tell the client; then bytes flow."""
        self._out.append(bytes((VERSION, SUCCEEDED, 0)) + encode_address(bound))

    def handle_failed(self, error: DialError) -> None:
        """Tell the client why not."""
        self._refuse(_REPLIES[error.failure])

    def _refuse(self, reply: int) -> None:
        self._asked = self.closed = True
        self._out.append(bytes((VERSION, reply, 0)) + encode_address(_NOWHERE))

    def poll_transmit(self) -> bytes | None:
        """Bytes for the client."""
        return self._out.pop(0) if self._out else None

    def poll_event(self) -> Connect | Associate | None:
        """What the client wants."""
        event, self._event = self._event, None
        return event
