"""Disco datagrams in and out: envelope and message in one step."""

from collections import Counter, deque
from collections.abc import Callable, Collection, Container
from typing import NamedTuple

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.crypto.box import NONCE_LEN
from tailnet.agent.disco import geneve, messages
from tailnet.agent.disco.envelope import OVERHEAD, Sealer, sender_untrusted
from tailnet.agent.disco.messages import Message, Ping
from tailnet.agent.disco.via import Bind
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import DiscoPrivate, DiscoPublic, NodePublic
from tailnet.agent.wireguard.session import Source

_IP_UDP_HEADERS = {4: 28, 6: 48}  # bytes, by IP version


class Transmit(NamedTuple):
    """A disco datagram to send.

    To an ``AddrPort`` it goes as it is; a Geneve header is still missing to a ``ViaAddr``.

    Attributes:
        along: the first message of a handshake, which goes there in the same system call.
    """

    dst: Source
    data: bytes
    along: bytes | None = None


class Mail:
    """Seals what is sent, opens what is known.

    Attributes:
        node_key: our node key, for pings; zero when logged out.
        drops: datagrams ignored, by reason.
    """

    def __init__(self, disco: DiscoPrivate, random_bytes: Callable[[int], bytes]) -> None:
        self._sealer = Sealer(disco)
        self._random_bytes = random_bytes
        self._out: deque[Transmit] = deque()
        self.node_key = NodePublic(bytes(32))
        self.drops: Counter[str] = Counter()

    @property
    def public(self) -> DiscoPublic:
        """Our disco key."""
        return self._sealer.public

    def set_key(self, disco: DiscoPrivate) -> None:
        """Another disco key: what peers still seal for the old one is unreadable."""
        self._sealer = Sealer(disco)

    def forget(self, key: DiscoPublic) -> None:
        """No peer has this disco key any longer."""
        self._sealer.forget(key)

    def open_untrusted(
        self, data: bytes, senders: Container[DiscoPublic], more: Container[DiscoPublic] = ()
    ) -> tuple[DiscoPublic, Message] | None:
        """Sender and message; ``None``, and a count in ``drops``, for anything of no use.

        Those that are not among ``senders`` or ``more`` cost no cryptography.
        """
        try:
            sender = sender_untrusted(data)
            if sender not in senders and sender not in more:
                self.drops["unknown sender"] += 1
                return None
            message = messages.parse_untrusted(self._sealer.open_untrusted(data))
        except BadPacket:
            self.drops["unreadable"] += 1
            return None
        if message is None:
            self.drops["unknown type"] += 1
            return None
        return sender, message

    def send(self, dst: Source, to: DiscoPublic, message: Message) -> None:
        """Queue a message to the owner of ``to``."""
        if (data := self._seal(to, message)) is not None:
            self._out.append(Transmit(dst, data))

    def send_control(self, dst: AddrPort, to: DiscoPublic, bind: Bind) -> None:
        """Queue a step of binding, for the relay at ``dst`` itself."""
        header = geneve.encode(geneve.Header(geneve.Protocol.DISCO, bind.vni, control=True))
        if (sealed := self._seal(to, bind)) is not None:
            self._out.append(Transmit(dst, header + sealed))

    def send_ping(self, dst: Source, to: DiscoPublic, txid: bytes, size: int = 0) -> None:
        """Queue a ping, padded until its IP packet has ``size`` bytes if it had less."""
        match dst:
            case AddrPort(ip, _):
                headers = _IP_UDP_HEADERS[ip.version]
            case ViaAddr(AddrPort(ip, _), _):
                headers = _IP_UDP_HEADERS[ip.version] + geneve.HEADER_LEN
            case _:
                headers = _IP_UDP_HEADERS[4]
        padding = max(0, size - headers - OVERHEAD - messages.PING_LEN)
        self.send(dst, to, Ping(txid, self.node_key, padding))

    def add(self, along: bytes, to: Collection[Source]) -> bool:
        """Have what waits for these addresses take this along, once each; false if nothing does."""
        left = set(to)
        for at, out in enumerate(self._out):
            if out.dst in left:
                left.remove(out.dst)
                self._out[at] = out._replace(along=along)
        return len(left) < len(to)

    def poll_transmit(self) -> Transmit | None:
        """Next datagram to send."""
        return self._out.popleft() if self._out else None

    def _seal(self, to: DiscoPublic, message: Message) -> bytes | None:
        try:
            return self._sealer.seal(to, self._random_bytes(NONCE_LEN), messages.encode(message))
        except BadPacket:
            self.drops["unusable key"] += 1
            return None
