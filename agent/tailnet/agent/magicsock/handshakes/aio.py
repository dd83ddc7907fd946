"""The ways that messages of handshakes take.

While a path is trusted they take it.  While there is none they take the relay, and besides every
way that may be one::

    initiation   with the pings that ask for the path, to at most 8 addresses
    any message  to where the peer was heard from within a second, at most 3 addresses

Whatever comes first counts; copies are told by their bytes (``tailnet.agent.datapath.copies``).  An
address that was never heard from gets as much as one that control or the peer named: a ping, and
besides at most one initiation a round.
"""

from collections.abc import Callable

from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.keys import PeerId
from tailnet.agent.magicsock.hub import Hub
from tailnet.agent.magicsock.sender.aio import Sender


class Handshakes:
    """Sends them.

    Args:
        hub: knows the ways.
        sender: for what goes by UDP.
        derp: for what goes by relays.
        now: seconds, as ``clock.now``.
        pump: sends what the hub wants sent.
    """

    def __init__(
        self,
        hub: Hub,
        sender: Sender,
        derp: DerpFleet,
        *,
        now: Callable[[], float],
        pump: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._sender = sender
        self._derp = derp
        self._now = now
        self._pump = pump

    def begin(self, peer: PeerId, initiation: bytes) -> None:
        """Ask for the peer's path, and send the message that needs it."""
        with_pings = self._hub.begin(peer, initiation, self._now())
        self._pump()
        if with_pings:
            self._relay(peer, initiation)
        else:
            self.send(peer, initiation)

    def send(self, peer: PeerId, message: bytes) -> None:
        """Send by every way the path has, or may have."""
        now = self._now()
        path = self._hub.route(peer)
        if path.udp is not None and (error := self._sender.send_to(path.udp, message)):
            self._hub.path_failed(peer, path.udp, error, now)
            path = self._hub.route(peer)
        if path.udp is None:
            for addr in self._hub.present(peer, now):
                self._sender.send_udp(addr, message)
        self._relay(peer, message)

    def _relay(self, peer: PeerId, message: bytes) -> None:
        relay = self._hub.relay(peer)
        if self._hub.route(peer).relay and relay is not None:
            self._derp.send(relay.region, relay.key, [message])
            self._derp.flush()
