"""One mapping for one port, kept as long as the gateway lets us; without I/O.

::

          network and port known            250 ms are over             granted, or all refused
     off ────────────────────► probing ───────────────────► asking ───────────────────► resting
      ▲                           ▲     NAT-PMP, PCP, UPnP: what                            │
      │ no private gateway        │     answered, the mapping's own                         │
      └───────────────────────────┴─────────────────────────────────────────────────────────┘
                                     half the lease, a pause, a restart, another network

Answers count only from the gateway.  A mapping stays in use while it is asked for again, unless the
gateway is known to have forgotten it and refuses.

Source: tailscale net/portmapper/portmapper.go; for restarts RFC 6886 section 3.6 and RFC 6887
section 8.5.
"""

from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from itertools import count

from tailnet.agent.addr import AddrPort
from tailnet.agent.errors import BadPacket
from tailnet.agent.portmap import natpmp, pcp
from tailnet.agent.portmap.actions import Action, Note
from tailnet.agent.portmap.answers import Answer, parse_untrusted, protocol_of
from tailnet.agent.portmap.attempt import Attempt
from tailnet.agent.portmap.epoch import Epoch
from tailnet.agent.portmap.interface import Network, Portmap, PortmapSupport, Protocol
from tailnet.agent.portmap.lease import Mapping
from tailnet.agent.portmap.search import Search

PROBE_TIME = 0.25  # seconds that gateways have to show what they speak
PROBE_PAUSE = 5.0  # seconds within which nobody is probed again because somebody would like to know
FIRST_PAUSE, LAST_PAUSE = 10.0, 600.0  # seconds between attempts that failed
ALL = frozenset(Protocol)


class _Phase(Enum):
    OFF = "off"
    PROBING = "probing"
    ASKING = "asking"
    RESTING = "resting"


class Mapper:
    """The machine.

    Args:
        random_bytes: source of randomness.
        protocols: those that may be used.

    Attributes:
        mapping: the one in force, if any.
        support: what the last probe found.
        drops: datagrams and documents ignored, by reason.
    """

    def __init__(
        self, random_bytes: Callable[[int], bytes], protocols: frozenset[Protocol] = ALL
    ) -> None:
        self._random_bytes = random_bytes
        self._protocols = protocols
        self._actions: deque[Action] = deque()
        self.mapping: Mapping | None = None
        self.support = PortmapSupport()
        self.drops: Counter[str] = Counter()
        self._network: Network | None = None
        self._port = 0
        self._phase = _Phase.OFF
        self._at: float | None = None  # when the phase ends
        self._pause = FIRST_PAUSE
        self._probed_at: float | None = None
        self._doubted = False  # the gateway may have lost the mapping
        self._search = Search()
        self._attempt: Attempt | None = None  # while asking
        self._epochs = {Protocol.PMP: Epoch(), Protocol.PCP: Epoch()}
        self._tickets = count(1)

    # --- what is

    @property
    def portmap(self) -> Portmap:
        """For those who only want to know."""
        return Portmap(self.mapping.external if self.mapping else None, self.support)

    @property
    def busy(self) -> bool:
        """Probing or asking."""
        return self._phase in {_Phase.PROBING, _Phase.ASKING}

    @property
    def probing(self) -> bool:
        """``support`` is about to be known."""
        return self._phase is _Phase.PROBING

    # --- wishes

    def set_network(self, network: Network | None, now: float) -> None:
        """Where we are; on another network the mapping of before is worth nothing.

        On the same one it is made sure of: a link that went and came may be a router's restart.
        """
        if network is not None and not network.private:
            self._note(f"the gateway {network.gateway} is not of a private network")
            network = None
        if network == self._network:
            self._doubt(now)
            return
        self._network = network
        self._forget()
        self.support, self._probed_at = PortmapSupport(), None
        self._epochs = {Protocol.PMP: Epoch(), Protocol.PCP: Epoch()}
        self._begin(now)

    def set_port(self, port: int, now: float) -> None:
        """The UDP port to be reached; 0 for none."""
        if port != self._port:
            self.release()
            self._port = port
            self._begin(now)

    def set_protocols(self, protocols: frozenset[Protocol], now: float) -> None:
        """Those that may be used from now on; a mapping by another one is given back."""
        if protocols == self._protocols:
            return
        if self.mapping is not None and self.mapping.by not in protocols:
            self.release()
        self._protocols = protocols
        self.support = PortmapSupport()
        self._begin(now)

    def probe(self, now: float) -> None:
        """Find out anew what the gateway speaks, unless that was done just now."""
        recently = self._probed_at is not None and now - self._probed_at < PROBE_PAUSE
        if self._phase is _Phase.RESTING and not recently:
            self._start_probing(now)

    def release(self) -> None:
        """Give the mapping back; nothing is waited for."""
        if self.mapping is not None and self._network is not None:
            self._note(f"giving {self.mapping.external} back")
            self._actions.append(self.mapping.give_back(self._network))
        self._forget()

    # --- inputs

    def handle_datagram_untrusted(self, src: AddrPort, data: bytes, now: float) -> None:
        """Something came to our socket.

        Raises:
            BadPacket: not from the gateway, or it makes no sense.
        """
        self._check_source(src)
        if src.port == natpmp.PORT:
            self._handle_answer(parse_untrusted(data), now)
        elif self._phase is not _Phase.OFF and Protocol.UPNP in self._protocols:
            known = Protocol.UPNP in self._search.heard
            self._search.handle_ssdp_untrusted(data)
            if not known and Protocol.UPNP in self._search.heard:
                self._hear(Protocol.UPNP, now)

    def handle_announcement_untrusted(self, src: AddrPort, data: bytes, now: float) -> None:
        """Something came to the port where gateways tell that they started.

        Anybody in the network could have sent it: no more follows than a question.

        Raises:
            BadPacket: not from the gateway, or it makes no sense.
        """
        self._check_source(src)
        parse_untrusted(data)
        self._doubt(now)

    def handle_http_untrusted(
        self, ticket: int, url: str, status: int, body: bytes, now: float
    ) -> None:
        """What came of a :class:`Post`; ``status`` 0: nothing.

        Raises:
            BadPacket: it makes no sense.
        """
        if self._attempt is None:
            return
        try:
            self._attempt.handle_http_untrusted(ticket, url, status, body, now)
        finally:
            self._follow_attempt(now)

    def handle_timeout(self, now: float) -> None:
        """What is due."""
        if self.mapping is not None and now >= self.mapping.ends_at:
            self._note(f"the lease of {self.mapping.external} is over")
            self.mapping = None
        if self._at is None or now < self._at:
            return
        if self._phase is _Phase.PROBING:
            self._probed(now)
        elif self._attempt is not None:
            self._attempt.handle_timeout(now)
            self._follow_attempt(now)
        else:
            self._start_probing(now)

    # --- outputs

    def poll_action(self) -> Action | None:
        """Next thing to do."""
        return self._actions.popleft() if self._actions else None

    def next_timeout(self) -> float | None:
        """When :meth:`handle_timeout` is wanted [s]."""
        ends = None if self.mapping is None else self.mapping.ends_at
        return min((t for t in (self._at, ends) if t is not None), default=None)

    # --- phases

    def _begin(self, now: float) -> None:
        self._pause = FIRST_PAUSE
        if self._network is None or not self._protocols:
            self._phase, self._at = _Phase.OFF, None
        elif not self._port:
            self._phase, self._at = _Phase.RESTING, None  # it can be probed
        else:
            self._start_probing(now)

    def _forget(self) -> None:
        self.mapping = self._attempt = None
        self._doubted = False
        self._phase, self._at = _Phase.OFF, None

    def _doubt(self, now: float) -> None:
        """The mapping may be lost: ask for it again, but not all the time."""
        self._doubted = True
        if self._phase is _Phase.RESTING and self._port:
            self._at = now if self._probed_at is None else max(now, self._probed_at + PROBE_PAUSE)
            self.handle_timeout(now)

    def _start_probing(self, now: float) -> None:
        if self._network is None:
            return
        self._phase, self._at = _Phase.PROBING, now + PROBE_TIME
        self._search = Search()
        self._note(f"probing {self._network.gateway}")
        self._actions += self._search.questions(self._network, self._protocols)

    def _probed(self, now: float) -> None:
        """The window is over: ask what was heard, the mapping's own protocol first."""
        self._probed_at = now
        self.support = self._search.support(self._protocols)
        names = ", ".join(p.value for p in Protocol if p in self._search.heard)
        self._note(f"the gateway speaks {names or 'nothing'}")
        mapping = self.mapping
        if not self._port:
            self._phase, self._at = _Phase.RESTING, None
            return
        if mapping is not None and not self._doubted and now < mapping.renew_at:
            self._phase, self._at = _Phase.RESTING, mapping.renew_at
            return
        if self._network is not None:
            self._phase = _Phase.ASKING
            self._attempt = Attempt(
                self._network,
                self._port,
                self._search,
                mapping,
                random_bytes=self._random_bytes,
                ticket=self._tickets.__next__,
                now=now,
            )
            self._follow_attempt(now)

    def _hear(self, protocol: Protocol, now: float) -> None:
        """The gateway answered by ``protocol``, for the first time since it was probed.

        A router may be slower than we wait: what comes late is asked as well.
        """
        if self._attempt is not None:
            self._attempt.hear(protocol)
        elif self._phase is _Phase.RESTING and self._probed_at is not None:
            self._probed(now)

    def _follow_attempt(self, now: float) -> None:
        """Do what the attempt wants; it may be over."""
        attempt = self._attempt
        if attempt is None:
            return
        self._actions += attempt.actions
        attempt.actions = []
        self._at = attempt.at
        if not attempt.over:
            return
        self._attempt = None
        if attempt.mapping is None:
            self._fail(now)
            return
        self.mapping = attempt.mapping
        self._doubted = False
        self._pause = FIRST_PAUSE
        self._phase, self._at = _Phase.RESTING, self.mapping.renew_at

    def _handle_answer(self, answer: Answer, now: float) -> None:
        protocol = protocol_of(answer)
        if protocol is not None and protocol not in self._search.heard:
            self._search.heard.add(protocol)
            self._hear(protocol, now)
        if (
            isinstance(answer, natpmp.External | natpmp.Mapped | pcp.Announced | pcp.Mapped)
            and protocol is not None
            and self._epochs[protocol].restarted(answer.epoch, now)
            and self.mapping is not None
            and self.mapping.by is protocol
        ):
            self._note("the gateway restarted")
            self._doubt(now)
        if self._attempt is not None:
            self._attempt.handle_answer(answer, now)
            self._follow_attempt(now)

    def _fail(self, now: float) -> None:
        """Nobody maps; what is left of a lease is used, and asked for more often."""
        if self._doubted:
            self.mapping, self._doubted = None, False
        pause = self._pause
        self._pause = min(self._pause * 2, LAST_PAUSE)
        if self.mapping is not None:
            pause = min(pause, max(1.0, (self.mapping.ends_at - now) / 4))
        self._phase, self._at = _Phase.RESTING, now + pause

    # --- small things

    def _check_source(self, src: AddrPort) -> None:
        if self._network is None or src.ip != self._network.gateway:
            msg = "not from the gateway"
            raise BadPacket(msg)

    def _note(self, text: str) -> None:
        self._actions.append(Note(text))
