"""What the mapper wants done, and what it has."""

from typing import NamedTuple

from tailnet.agent.addr import AddrPort
from tailnet.agent.portmap.ask import Granted
from tailnet.agent.portmap.igd import Post
from tailnet.agent.portmap.interface import Protocol


class SendUdp(NamedTuple):
    """Send from the mapper's socket."""

    to: AddrPort
    data: bytes


class Note(NamedTuple):
    """Something worth telling whoever debugs."""

    text: str


Action = SendUdp | Post | Note


class Mapping(NamedTuple):
    """What the gateway promised.  ``renew_at``, ``ends_at``: seconds."""

    granted: Granted
    internal: int
    by: Protocol
    renew_at: float
    ends_at: float

    @property
    def external(self) -> AddrPort:
        """Where datagrams from outside arrive."""
        return AddrPort(self.granted.ip, self.granted.port)
