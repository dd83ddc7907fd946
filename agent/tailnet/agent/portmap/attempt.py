"""One attempt at a mapping: one protocol after the other, until one grants it.

Source: tailscale net/portmapper/portmapper.go, createOrGetMapping.
"""

from collections.abc import Callable

from tailnet.agent.addr import AddrPort
from tailnet.agent.portmap import natpmp, pcp
from tailnet.agent.portmap.actions import Action, Note, SendUdp
from tailnet.agent.portmap.answers import Answer
from tailnet.agent.portmap.ask import AskPcp, AskPmp, Denied, Granted
from tailnet.agent.portmap.igd import AskIgd
from tailnet.agent.portmap.interface import Network, Protocol
from tailnet.agent.portmap.lease import LIFETIME, Mapping
from tailnet.agent.portmap.search import Search

REPEATS = (0.25, 0.5, 1.0)  # seconds between repetitions of a request; the last is patience
ATTEMPT_TIME = 5.0  # seconds for a mapping by UPnP


class Attempt:
    """Begins at once.  After each call the owner takes everything from ``actions``.

    Args:
        network: the gateway and our own address towards it.
        port: ours.
        search: who was heard, and is asked.
        present: the mapping to be renewed; its protocol is asked first, for the same port outside.
        random_bytes: source of randomness.
        ticket: numbers for HTTP requests.
        now: seconds.

    Attributes:
        actions: what to do, in order.
        mapping: what came of it.
        at: when :meth:`handle_timeout` is wanted [s].
    """

    def __init__(  # noqa: PLR0913 - what is known, what is wished, and two sources of numbers
        self,
        network: Network,
        port: int,
        search: Search,
        present: Mapping | None,
        *,
        random_bytes: Callable[[int], bytes],
        ticket: Callable[[], int],
        now: float,
    ) -> None:
        self._network = network
        self._port = port
        self._search = search
        self._present = present
        self._random_bytes = random_bytes
        self._ticket = ticket
        self._todo = [p for p in Protocol if p in search.heard]  # the present one first
        if present is not None:
            self._todo.sort(key=lambda p: p is not present.by)
        self._ask: AskPmp | AskPcp | AskIgd | None = None
        self._repeats = 0
        self.actions: list[Action] = []
        self.mapping: Mapping | None = None
        self.at = now
        self._next(now)

    @property
    def over(self) -> bool:
        """There is a mapping, or nobody is left to be asked."""
        return self.mapping is not None or not self._todo

    def hear(self, protocol: Protocol) -> None:
        """The gateway speaks this one too, as it says only now."""
        self._todo.append(protocol)

    def handle_answer(self, answer: Answer, now: float) -> None:
        """By NAT-PMP or PCP."""
        if isinstance(self._ask, AskPmp | AskPcp):
            self._settle(self._ask.handle(answer), now)

    def handle_http_untrusted(
        self, ticket: int, url: str, status: int, body: bytes, now: float
    ) -> None:
        """What came of a :class:`Post`; ``status`` 0: nothing.

        Raises:
            BadPacket: it makes no sense.
        """
        ask = self._ask
        if not isinstance(ask, AskIgd):
            return
        try:
            ask.handle_answer_untrusted(ticket, url, status, body)
        finally:
            self.actions += ask.take_posts()
            self._settle(ask.result, now)

    def handle_timeout(self, now: float) -> None:
        """Send the requests again, or give this protocol up."""
        if isinstance(self._ask, AskPmp | AskPcp) and self._repeats < len(REPEATS):
            self.at = now + REPEATS[self._repeats]
            self._repeats += 1
            gateway = AddrPort(self._network.gateway, natpmp.PORT)
            self.actions += (SendUdp(gateway, request) for request in self._ask.requests)
        else:
            self._settle(Denied("no answer"), now)

    # --- inside

    def _next(self, now: float) -> None:
        if not self._todo:
            return
        network, present, protocol = self._network, self._present, self._todo[0]
        wished = present.external.port if present is not None else 0
        self.actions.append(Note(f"asking for port {self._port} by {protocol.value}"))
        if protocol is Protocol.UPNP:
            self._ask = igd = AskIgd(
                self._search.descriptions(),
                network,
                self._port,
                wished,
                random_bytes=self._random_bytes,
                ticket=self._ticket,
            )
            self.at = now + ATTEMPT_TIME
            self.actions += igd.take_posts()
            self._settle(igd.result, now)
            return
        if protocol is Protocol.PCP:
            nonce = present.granted.nonce if present is not None else b""
            nonce = nonce or self._random_bytes(pcp.NONCE_LEN)
            self._ask = AskPcp(network.own, nonce, self._port, wished, LIFETIME)
        else:
            self._ask = AskPmp(self._port, wished, LIFETIME)
        self._repeats = 0
        self.handle_timeout(now)

    def _settle(self, result: Granted | Denied | None, now: float) -> None:
        """The protocol that is being asked has decided, or not yet."""
        if result is None or self.over:
            return
        protocol = self._todo.pop(0)
        self._ask = None
        if isinstance(result, Denied):
            self.actions.append(Note(f"no mapping by {protocol.value}: {result.why}"))
            self._next(now)
            return
        self.mapping = mapping = Mapping.begin(result, self._port, protocol, now)
        lasts = f"{mapping.ends_at - now:.0f} s"
        text = f"{mapping.external} leads to port {self._port} for {lasts}"
        self.actions.append(Note(text))
