"""Our own datagrams out: by UDP, through a peer relay, through DERP."""

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.datapath.interface import Datapath
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.disco import geneve
from tailnet.agent.disco.envelope import looks_like_disco
from tailnet.agent.keys import RelayAddr
from tailnet.agent.wireguard.session import Source


class Sender:
    """Disco, STUN and handshakes; packets of peers take the datapath's own way.

    Attributes:
        datapath: owns the UDP sockets; without one nothing leaves by UDP.
    """

    def __init__(self, derp: DerpFleet) -> None:
        self._derp = derp
        self.datapath: Datapath | None = None

    def send_to(self, dst: Source, datagram: bytes, along: bytes | None = None) -> int:
        """Send to where something came from; the ``errno`` by UDP, else 0.

        ``along``: goes behind it, in one system call; to an ``AddrPort`` only.
        """
        match dst:
            case AddrPort():
                return self.send_udp(dst, datagram, along)
            case ViaAddr(relay, vni):
                disco = looks_like_disco(datagram)
                protocol = geneve.Protocol.DISCO if disco else geneve.Protocol.WIREGUARD
                return self.send_udp(relay, geneve.encode(geneve.Header(protocol, vni)) + datagram)
            case RelayAddr(region, key):
                self._derp.send(region, key, [datagram])
                return 0

    def send_udp(self, dst: AddrPort, datagram: bytes, along: bytes | None = None) -> int:
        """0, or the ``errno`` of a socket that refuses."""
        if self.datapath is None:
            return 0
        return self.datapath.send_udp(dst, [datagram] if along is None else [datagram, along])
