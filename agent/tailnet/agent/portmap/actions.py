"""What the mapper wants done."""

from typing import NamedTuple

from tailnet.agent.addr import AddrPort
from tailnet.agent.portmap.igd import Post


class SendUdp(NamedTuple):
    """Send from the mapper's socket."""

    to: AddrPort
    data: bytes


class Note(NamedTuple):
    """Something worth telling whoever debugs."""

    text: str


Action = SendUdp | Post | Note
