"""Hostile datagrams never raise and are all accounted for."""

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from tests.support.datapath import ME, THEM, allow_all
from tests.support.packets import ip, tcp, udp

from tailnet.agent.crypto.aead import Aead
from tailnet.agent.datapath.interface import PeerEntry, Session
from tailnet.agent.datapath.reference import drops
from tailnet.agent.datapath.reference.inbound import Inbound
from tailnet.agent.datapath.reference.reject import Replies
from tailnet.agent.datapath.reference.tables import Tables
from tailnet.agent.datapath.reference.upcalls import UpcallQueue
from tailnet.agent.filter.match import Matcher
from tailnet.agent.keys import PeerId

KEY = bytes(range(32))
PEER = PeerId(1)


class Bench:
    """The inbound half, without any shell."""

    def __init__(self) -> None:
        self.counts = drops.counters()
        self.tables = Tables()
        self.upcalls = UpcallQueue()
        matcher = Matcher(self.tables.is_local)
        matcher.set_filter(allow_all())
        self.inbound = Inbound(self.tables, matcher, self.upcalls, self.counts, Replies())
        self.inbound.set_offload(vnet_hdr=True, uso=True, tso=True)
        self.tables.set_peers({PEER: PeerEntry((ip_network(THEM),))})
        self.tables.set_local([ip_network(ME)])
        self.peer = self.tables.peers[PEER]
        self.tables.add_session(self.peer, Session(7, 8, KEY, KEY, 0.0, initiator=True))

    def receive(self, datagram: bytes, size: int = 0) -> None:
        """As if it came from the network."""
        self.inbound.receive(memoryview(datagram), size or len(datagram), ("192.0.2.1", 9), 1.0)

    def seal(self, plain: bytes, counter: int) -> bytes:
        """An authentic message with any content."""
        nonce = bytes(4) + counter.to_bytes(8, "little")
        head = b"\x04\0\0\0\x07\0\0\0" + nonce[4:]
        return head + Aead(KEY).seal(nonce, plain, None)

    def accounted(self) -> int:
        """Datagrams dropped, handed up or written."""
        sources = 1 if self.peer.reported else 0
        return sum(self.counts.values()) + len(self.upcalls) - sources + len(self.inbound.take())


starts = st.sampled_from([b"", b"\x01\0\0\0", b"\x04\0\0\0\x07\0\0\0", b"TS\xf0\x9f\x92\xac"])
datagrams = st.builds(lambda a, b: a + b, starts, st.binary(min_size=1, max_size=200))


@given(st.lists(datagrams, max_size=8))
def test_every_datagram_of_garbage_is_counted_or_handed_up(garbage: list[bytes]) -> None:
    """Nothing raises, nothing vanishes."""
    bench = Bench()
    for datagram in garbage:
        bench.receive(datagram)
    assert bench.accounted() == len(garbage)


@given(st.binary(min_size=1, max_size=400), st.integers(1, 90))
def test_a_group_is_classified_datagram_by_datagram(data: bytes, size: int) -> None:
    """UDP_GRO may join strangers by accident of size."""
    bench = Bench()
    bench.receive(data, size)
    assert bench.accounted() == -(-len(data) // size)


packets = st.one_of(
    st.binary(min_size=1, max_size=100),
    st.binary(max_size=60).map(lambda b: ip(THEM, ME, 6, b)),
    st.builds(
        lambda body, proto, flags: ip(THEM, ME, proto, body, flags=flags),
        st.binary(max_size=60),
        st.integers(0, 255),
        st.sampled_from([0, 0x4000, 0x2000, 5, 20]),
    ),
    st.sampled_from([udp(THEM, ME, b"x"), tcp(THEM, ME, b"y"), tcp(THEM, ME, b"y", flags=2)]),
)


@given(st.lists(packets, max_size=8))
def test_every_authentic_packet_is_written_handed_up_or_counted(plains: list[bytes]) -> None:
    """A peer may send anything; its counters see all of it."""
    bench = Bench()
    for counter, plain in enumerate(plains):
        bench.receive(bench.seal(plain, counter))
    # A single packet is [header, packet]; a group is [header, headers, payload, payload…].
    written = sum(len(write) - 2 or 1 for write in bench.inbound.take())
    assert bench.accounted() + written == len(plains)
    assert bench.peer.rx_packets == len(plains)


def test_a_counter_at_the_end_of_its_life_is_refused() -> None:
    """RejectAfterMessages holds for receiving too."""
    bench = Bench()
    bench.receive(bench.seal(udp(THEM, ME), (1 << 64) - (1 << 13) - 1))
    assert bench.counts[drops.IN_EXPIRED] == 1
