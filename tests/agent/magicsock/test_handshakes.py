"""The ways that messages of handshakes take."""

from collections.abc import Sequence
from typing import cast

from tailnet.agent.addr import AddrPort
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.datapath.interface import Datapath
from tailnet.agent.derp.aio import DerpFleet
from tailnet.agent.disco.envelope import Sealer, looks_like_disco
from tailnet.agent.disco.messages import Message, Ping, Pong, encode, parse_untrusted
from tailnet.agent.keys import DiscoPrivate, NodePublic, PeerId
from tailnet.agent.magicsock.candidate import PRESENT
from tailnet.agent.magicsock.candidates import MAX_ALONG, MAX_BACK
from tailnet.agent.magicsock.handshakes.aio import Handshakes
from tailnet.agent.magicsock.hub import Hub, PeerInfo
from tailnet.agent.magicsock.peers import Policy
from tailnet.agent.magicsock.sender.aio import Sender

P = PeerId(1)
A, B, C = (AddrPort.of(f"{n}.{n}.{n}.{n}", n) for n in (1, 2, 3))
ME, NODE = DiscoPrivate.from_random(b"m" * 32), NodePublic(b"N" * 32)
PEER = Sealer(DiscoPrivate.from_random(b"p" * 32))
FIRST, SECOND = b"\x01 initiation", b"\x02 response"


class Bench:
    """A hub with one peer, and what leaves."""

    def __init__(
        self,
        *endpoints: AddrPort,
        policy: Policy = Policy.AUTO,
        sizes: tuple[int, ...] = (0,),
    ) -> None:
        self.now = 100.0
        self.left: list[tuple[AddrPort | str, list[bytes]]] = []  # one entry a call
        seed = iter(range(1 << 20))
        self.hub = Hub(ME, random_bytes=lambda size: next(seed).to_bytes(size, "big"), sizes=sizes)
        self.hub.set_node_key(NodePublic(b"M" * 32))
        info = PeerInfo(NODE, PEER.public, endpoints, 1, policy=policy)
        self.hub.set_peers({P: info}, self.now)
        derp = cast("DerpFleet", self)
        self.sender = Sender(derp)
        self.sender.datapath = cast("Datapath", self)
        self.it = Handshakes(self.hub, self.sender, derp, now=lambda: self.now, pump=self.pump)

    def send(self, region: int, dst: NodePublic, datagrams: Sequence[bytes]) -> None:
        """To the relay."""
        assert (region, dst) == (1, NODE)
        self.left.append(("relay", list(datagrams)))

    def flush(self) -> None:
        """To the relay, at once."""

    def send_udp(self, dst: AddrPort, datagrams: Sequence[bytes]) -> int:
        """Directly."""
        self.left.append((dst, list(datagrams)))
        return 0

    def pump(self) -> None:
        """What the hub wants sent."""
        while (transmit := self.hub.poll_transmit()) is not None:
            self.sender.send_to(*transmit)

    def hears(self, message: Message, src: AddrPort) -> None:
        """Disco of the peer."""
        sealed = PEER.seal(public_of(ME), b"n" * 24, encode(message))
        self.hub.handle_disco_untrusted(sealed, src, self.now)

    def pinged(self, src: AddrPort, txid: bytes = b"t" * 12) -> None:
        """A ping, and its pong is away."""
        self.hears(Ping(txid, NODE), src)
        self.pump()
        self.left.clear()

    def answered(self) -> None:
        """The first ping that left gets its pong."""
        dst, (ping, *_) = self.left[0]
        asked = parse_untrusted(PEER.open_untrusted(ping))
        assert isinstance(asked, Ping)
        assert isinstance(dst, AddrPort)
        self.hears(Pong(asked.txid, dst), dst)
        self.pump()
        self.left.clear()


def plain(left: list[tuple[AddrPort | str, list[bytes]]]) -> list[tuple[AddrPort | str, list[str]]]:
    """With names instead of bytes."""
    names = {FIRST: "first", SECOND: "second"}
    return [
        (dst, ["disco" if looks_like_disco(data) else names[data] for data in datagrams])
        for dst, datagrams in left
    ]


def test_a_first_message_goes_with_each_ping_in_one_call_then_to_the_relay() -> None:
    """So a peer that is in reach answers without waiting for the relay."""
    bench = Bench(A, B)
    bench.it.begin(P, FIRST)
    assert plain(bench.left) == [
        (A, ["disco", "first"]),
        (B, ["disco", "first"]),
        ("relay", ["first"]),
    ]


def test_a_first_message_goes_once_where_pings_of_several_sizes_go() -> None:
    """They ask for the MTU; the message is asked to be answered once."""
    bench = Bench(A, sizes=(1280, 1400))
    bench.it.begin(P, FIRST)
    assert plain(bench.left) == [(A, ["disco", "first"]), (A, ["disco"]), ("relay", ["first"])]


def test_no_more_than_some_addresses_get_the_first_message() -> None:
    """A peer that names a hundred aims no more at them than pings."""
    bench = Bench(*(AddrPort.of("9.9.9.9", port) for port in range(1, 40)))
    bench.it.begin(P, FIRST)
    along = [datagrams for _, datagrams in bench.left if len(datagrams) == 2]
    assert len(along) == MAX_ALONG
    assert bench.left[-1] == ("relay", [FIRST])


def test_a_first_message_that_is_repeated_between_rounds_takes_the_relay_only() -> None:
    """Nothing is pinged then, and what answered nothing gets nothing more."""
    bench = Bench(A)
    bench.it.begin(P, FIRST)
    bench.left.clear()
    bench.now += 0.6
    bench.it.begin(P, FIRST)
    assert plain(bench.left) == [("relay", ["first"])]


def test_by_a_path_that_is_trusted_nothing_goes_twice() -> None:
    """Neither a first message nor an answer."""
    bench = Bench(A, B)
    bench.it.begin(P, FIRST)
    bench.answered()
    bench.it.begin(P, FIRST)
    bench.it.send(P, SECOND)
    assert plain(bench.left) == [(A, ["first"]), (A, ["second"])]


def test_an_answer_goes_to_where_the_peer_was_just_heard_and_to_the_relay() -> None:
    """It pings before it asks; or it asked from there."""
    bench = Bench(A)
    bench.pinged(C)
    bench.hub.note_source(P, B, bench.now)
    bench.it.send(P, SECOND)
    assert plain(bench.left) == [(C, ["second"]), (B, ["second"]), ("relay", ["second"])]


def test_an_answer_goes_to_few_addresses_and_not_to_old_ones() -> None:
    """Less leaves than came."""
    bench = Bench()
    for port in range(1, 10):
        bench.pinged(AddrPort.of("9.9.9.9", port), bytes([port]) * 12)
    bench.it.send(P, SECOND)
    assert len(bench.left) == MAX_BACK + 1
    bench.left.clear()
    bench.now += PRESENT
    bench.it.send(P, SECOND)
    assert bench.left == [("relay", [SECOND])]


def test_policies_hold_for_handshakes() -> None:
    """No relay where none is wanted, and nothing else where nothing else is."""
    direct, relayed = Bench(A, policy=Policy.DIRECT_ONLY), Bench(A, policy=Policy.RELAY_ONLY)
    direct.it.begin(P, FIRST)
    assert plain(direct.left) == [(A, ["disco", "first"])]
    relayed.pinged(A)
    relayed.it.begin(P, FIRST)
    relayed.it.send(P, SECOND)
    assert plain(relayed.left) == [("relay", ["first"]), ("relay", ["second"])]
