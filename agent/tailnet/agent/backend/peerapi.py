"""Where a peer's PeerAPI is.

Source: tailscale ipn/ipnlocal/node_backend.go, peerAPIBase.
"""

from tailnet.agent.addr import AddrPort
from tailnet.agent.tailcfg.node import Node


def peer_api(peer: Node, own: Node) -> AddrPort | None:
    """Its address, of a family that we have, IPv4 first; ``None`` if it says of none."""
    services = (peer.hostinfo.services if peer.hostinfo else None) or ()
    ports = {service.proto: service.port for service in services}
    families = {ip.version for ip in own.ips()}
    for ip in sorted(peer.ips(), key=lambda ip: ip.version):
        if ip.version in families and (port := ports.get(f"peerapi{ip.version}")):
            return AddrPort(ip, port)
    return None
