"""TSMP, which peers send through their sessions: pings, pongs and disco keys."""

from collections.abc import Callable

from tailnet.agent.addr import AddrPort, IPAddress
from tailnet.agent.backend.tunnel.pings.aio import Pings
from tailnet.agent.datapath import tsmp
from tailnet.agent.datapath.interface import Datapath
from tailnet.agent.keys import DiscoPublic, PeerId


class Messages:
    """What comes, and what is said to peers.

    Args:
        datapath: what sends.
        pings: those of ours that wait for an answer.
        disco: our key.
        on_disco_key: a peer told us its key.

    Attributes:
        open: where our PeerAPI listens; pongs say it.
    """

    def __init__(
        self,
        datapath: Datapath,
        pings: Pings,
        disco: DiscoPublic,
        on_disco_key: Callable[[PeerId, DiscoPublic], None],
    ) -> None:
        self._datapath = datapath
        self._pings = pings
        self._disco = disco
        self._on_disco_key = on_disco_key
        self.open: tuple[AddrPort, ...] = ()

    def handle(self, peer: PeerId, message: tsmp.Message) -> None:
        """A ping is answered, a pong ends a ping of ours, a disco key is told."""
        if isinstance(message, tsmp.Ping):
            self._datapath.send_plain(peer, [tsmp.encode_pong(message, self._open_port(message))])
        elif isinstance(message, tsmp.Pong):
            self._pings.handle_pong(peer, message)
        elif isinstance(message, tsmp.DiscoKey):
            self._on_disco_key(peer, message.key)

    def tell_disco_key(self, peer: PeerId, src: IPAddress, dst: IPAddress) -> None:
        """Tell a peer our disco key, through the session there is."""
        self._datapath.send_plain(peer, [tsmp.encode_disco_key(src, dst, self._disco)])

    def _open_port(self, ping: tsmp.Ping) -> int:
        version = ping.header.dst.version
        return next((at.port for at in self.open if at.ip.version == version), 0)
