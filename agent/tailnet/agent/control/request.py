"""Map requests: what a node says about itself.

Source: tailscale control/controlclient/direct.go, sendMapRequest.
"""

from tailnet.agent._version import CAPABILITY_VERSION
from tailnet.agent.addr import AddrPort
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.keys import DiscoPublic, NodePrivate
from tailnet.agent.tailcfg.mapping import MapRequest
from tailnet.agent.tailcfg.node import Hostinfo


def map_request(
    node_key: NodePrivate,
    disco_key: DiscoPublic,
    hostinfo: Hostinfo,
    endpoints: tuple[tuple[AddrPort, int], ...],
    *,
    stream: bool,
) -> MapRequest:
    """A streaming poll, or (without ``stream``) a lite update: both carry all we know of ourselves.

    ``endpoints`` are addresses with their tailcfg endpoint type.
    """
    return MapRequest(
        version=CAPABILITY_VERSION,
        compress="zstd",
        keep_alive=True,
        node_key=public_of(node_key),
        disco_key=disco_key,
        stream=stream,
        omit_peers=not stream,
        hostinfo=hostinfo,
        endpoints=tuple(str(address) for address, _ in endpoints),
        endpoint_types=tuple(kind for _, kind in endpoints),
    )
