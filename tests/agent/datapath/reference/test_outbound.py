"""Choice of peer, padding and grouping."""

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from tests.support.packets import ip, tcp, udp

from tailnet.agent.datapath.interface import PeerEntry, Session
from tailnet.agent.datapath.reference import drops
from tailnet.agent.datapath.reference.outbound import SLACK, Outbound, padded
from tailnet.agent.datapath.reference.reject import Replies
from tailnet.agent.datapath.reference.tables import Tables
from tailnet.agent.datapath.reference.upcalls import UpcallQueue
from tailnet.agent.filter.flows import Flow
from tailnet.agent.filter.match import Matcher
from tailnet.agent.keys import PeerId

ME, THEM, OTHER, ME6, THEM6 = "100.64.0.1", "100.64.0.2", "100.64.0.3", "fd7a::1", "fd7a::2"
KEY = bytes(32)


class Bench:
    """The outbound half, with sessions to two peers and no shell."""

    def __init__(self) -> None:
        self.counts = drops.counters()
        tables = Tables()
        self.matcher = Matcher(tables.is_local)
        self.outbound = Outbound(tables, self.matcher, UpcallQueue(), self.counts, Replies())
        self.outbound.mtu = 1280
        one, two = (ip_network(THEM), ip_network(THEM6)), (ip_network(OTHER),)
        tables.set_peers({PeerId(1): PeerEntry(one), PeerId(2): PeerEntry(two)})
        for peer in tables.peers.values():
            tables.add_session(peer, Session(peer.id, 9, KEY, KEY, 0.0, initiator=True))

    def read(self, packet: bytes) -> None:
        """One packet from the host."""
        buffer = bytearray(packet + bytes(SLACK))
        self.outbound.read(buffer, len(packet), 1.0, vnet_hdr=False)

    def runs(self) -> list[tuple[int, list[int]]]:
        """Peer and sizes of the datagrams of each run."""
        return [
            (r.peer.id, [len(r.data[i : i + r.size]) for i in range(0, len(r.data), r.size)])
            for r in self.outbound.take()
        ]


packets = st.sampled_from(
    [
        udp(ME, THEM, bytes(40)),
        udp(ME, THEM, bytes(40), sport=9),
        udp(ME, THEM, bytes(40)) + b"beyond the length",
        udp(ME, THEM, bytes(40))[:-1],
        udp(ME, OTHER, bytes(40)),
        udp(ME, "100.64.0.4", bytes(40)),
        udp(ME, "224.0.0.1", bytes(40)),
        udp(ME6, THEM6, bytes(40)),
        tcp(ME, THEM, bytes(40)),
        tcp(ME6, THEM6, bytes(40)),
        ip(ME, THEM, 17, udp(ME, THEM, bytes(40))[20:], flags=5),
        ip(ME, THEM, 17, udp(ME, THEM, bytes(40))[20:], flags=10),
        ip(ME, THEM, 99, bytes(60)),
        b"",
        bytes(70),
    ]
)


@given(st.lists(packets, max_size=12))
def test_the_memory_of_the_last_flow_changes_no_verdict(chosen: list[bytes]) -> None:
    """Each packet fares as it would as the first one, and so does flow state."""
    bench = Bench()
    expected = drops.counters()
    sent: list[int] = []
    for packet in chosen:
        fresh = Bench()
        fresh.read(packet)
        sent += [peer for peer, sizes in fresh.runs() for _ in sizes]
        for name, count in fresh.counts.items():
            expected[name] += count
        bench.read(packet)
    assert bench.counts == expected
    assert [peer for peer, sizes in bench.runs() for _ in sizes] == sent
    plain = udp(ME, THEM, bytes(40))
    reply = Flow(17, plain[16:20], plain[12:16], 53, 1000)
    assert bench.matcher.flows.is_reply(reply) == any(p.startswith(plain) for p in chosen)


def test_equal_datagrams_to_one_peer_are_one_run() -> None:
    """A shorter one closes it, a longer one starts another, so does another peer."""
    bench = Bench()
    for size in (100, 100, 50, 100, 200, 200):
        bench.read(udp(ME, THEM, bytes(size)))
    bench.read(udp(ME, OTHER, bytes(200)))
    assert bench.runs() == [
        (1, [160, 160, 112]),
        (1, [160]),
        (1, [272, 272]),
        (2, [272]),
    ]


@given(st.integers(0, 5000), st.integers(0, 2000))
def test_padding_is_to_16_but_never_beyond_the_mtu(length: int, mtu: int) -> None:
    """wireguard-go's rule, for packets longer than the MTU too."""
    full = padded(length, mtu)
    assert 0 <= full - length < 16
    if mtu == 0 or length <= mtu:
        assert full == min(-(-length // 16) * 16, mtu or 1 << 16)
