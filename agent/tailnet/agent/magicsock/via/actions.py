"""What the client of peer relays wants done."""

from typing import NamedTuple

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.disco.via import AllocateRequest, Bind, RelayEndpoint
from tailnet.agent.keys import DiscoPublic, PeerId


class Ask(NamedTuple):
    """Send a request to a relay, by DERP."""

    server: PeerId
    request: AllocateRequest


class Offer(NamedTuple):
    """Tell the peer about a session, by DERP."""

    peer: PeerId
    endpoint: RelayEndpoint


class SendBind(NamedTuple):
    """A step of binding, sealed to the relay's key ``server``, by UDP."""

    server: DiscoPublic
    to: AddrPort
    bind: Bind


class Probe(NamedTuple):
    """Ping the peer through a session."""

    peer: PeerId
    via: ViaAddr
    txid: bytes


class Ready(NamedTuple):
    """The peer answered through a session; ``latency`` of the round trip [s]."""

    peer: PeerId
    via: ViaAddr
    server: DiscoPublic
    latency: float


ViaAction = Ask | Offer | SendBind | Probe | Ready
