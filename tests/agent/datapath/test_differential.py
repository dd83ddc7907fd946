"""The native datapath does what the reference does, packet for packet and counter for counter."""

import os
from collections import Counter
from ipaddress import ip_address, ip_network
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.datapath import (
    ME,
    PEER,
    STRANGER,
    THEM,
    MakeDatapath,
    Rig,
    allow_all,
    make_native,
    make_native_wide,
    make_reference,
)
from tests.support.packets import icmp, ip, summed, tcp, udp

from tailnet.agent.addr import ViaAddr
from tailnet.agent.datapath.interface import Path, PeerEntry, Wake, Woke
from tailnet.agent.datapath.native import AeadChoice, why_not
from tailnet.agent.datapath.reference.split import split
from tailnet.agent.filter.parse import parse_untrusted
from tailnet.agent.filter.rules import Filter, compile_filter
from tailnet.agent.keys import PeerId
from tailnet.agent.tailcfg.filter import FilterRule, NetPortRange, PortRange

Step = tuple[str, Any]

OTHER = PeerId(2)
ELSE = "100.64.0.9"
KNOWN = "100.64.0.77"  # what the peer calls us, at times
ME6, THEM6, STRANGER6, KNOWN6 = "fd7a::1", "fd7a::2", "fd7a::3", "fd7a::77"
MINE = [ip_network(ME), ip_network(ME6)]
OTHER_INDEX = 201
OTHER_INDEX_SENT = (OTHER_INDEX + 100).to_bytes(4, "little")
# A TCP segment that opens nothing passes every filter.
OUT_MARK = tcp(ME, ELSE, b"the end of a step")
IN_MARK = tcp(ELSE, ME, b"the end of a step")


def web_only() -> Filter:
    """TCP to port 80 and ICMP from one peer."""
    ports = tuple(NetPortRange(ip=address, ports=PortRange(80, 80)) for address in (ME, ME6))
    return compile_filter([FilterRule(src_ips=(THEM, THEM6), dst_ports=ports, ip_proto=(6, 1, 58))])


FILTERS = {"all": allow_all, "none": Filter.shields_up, "web": web_only}

addresses = st.sampled_from([ME, KNOWN, THEM, STRANGER, "224.0.0.1", "169.254.1.1"])
addresses6 = st.sampled_from([ME6, KNOWN6, THEM6, STRANGER6, "ff02::1", "fe80::1", "::"])
ports = st.sampled_from([53, 80, 443, 1000])
options = st.sampled_from(
    [b"", b"\x02\x04\x05\xb4", b"\x01\x02\x04\x05\xb4\x01\x01\x00", b"\x02\x00\x02\x04"]
)
sizes = st.sampled_from([0, 1, 15, 16, 17, 100, 1200])


def part(src: str, dst: str, flags: int) -> bytes:
    """Of a UDP datagram; ``flags`` is as in IPv4's header."""
    if ":" not in src:
        return ip(src, dst, 17, bytes(16), flags=flags)
    offset_and_more = (flags & 0x1FFF) << 3 | flags >> 13
    return ip(src, dst, 44, b"\x11\0" + offset_and_more.to_bytes(2, "big") + bytes(4 + 16))


PAIRS = {"out": ((ME, THEM), (ME6, THEM6)), "in": ((THEM, ME), (THEM6, ME6))}


@st.composite
def packets(draw: st.DrawFn, way: str) -> bytes:
    """IP packets, most of them as they should be."""
    six = draw(st.booleans())
    src, dst = PAIRS[way][six]
    if draw(st.integers(0, 5)) == 0:
        src = draw(addresses6 if six else addresses)
    if draw(st.integers(0, 5)) == 0:
        dst = draw(addresses6 if six else addresses)
    payload = bytes(draw(sizes))
    match draw(st.sampled_from(["udp", "udp", "tcp", "tcp", "icmp", "tsmp", "other", "bytes"])):
        case "udp":
            packet = udp(src, dst, payload, sport=draw(ports), dport=draw(ports))
        case "tcp":
            flags = draw(st.sampled_from([0x10, 0x10, 0x18, 0x02, 0x12, 0x11]))
            seq = 1 + 100 * draw(st.integers(0, 3))
            packet = tcp(
                src, dst, payload, dport=draw(ports), seq=seq, flags=flags, options=draw(options)
            )
        case "icmp":
            kind = draw(st.sampled_from([1, 3, 4, 128, 129, 135] if six else [0, 3, 8, 11]))
            packet = icmp(src, dst, payload, kind=kind)
        case "tsmp":
            flow = bytes([6]) + draw(st.sampled_from([b"A", b"S", b"F", b"x"]))
            flow += (1000).to_bytes(2, "big") + draw(ports).to_bytes(2, "big")
            messages = [
                b"p12345678",
                b"!" + flow,
                b"!" + flow,
                b"!" + flow + b"\x01",
                b"!" + flow[:5],
            ]
            packet = ip(src, dst, 99, draw(st.sampled_from(messages)))
        case "other":
            packet = ip(src, dst, draw(st.sampled_from([0, 2, 47, 132, 255])), payload)
        case _:
            packet = draw(st.binary(max_size=60))
    if draw(st.integers(0, 9)) == 0:
        packet = part(src, dst, draw(st.sampled_from([0x2000, 1, 9, 10, 0x2005])))
    if packet and draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(packet) - 1))
        packet = packet[:at] + bytes([packet[at] ^ draw(st.integers(1, 255))]) + packet[at + 1 :]
        packet = packet if draw(st.booleans()) else summed(packet)
    return packet


@st.composite
def trains(draw: st.DrawFn) -> list[bytes]:
    """Packets of a peer's flow that follow one another, as what is to be joined does."""
    src, dst = PAIRS["in"][draw(st.booleans())]
    sizes = [draw(st.sampled_from([1, 100, 1200]))] * draw(st.integers(1, 5)) + [
        draw(st.integers(0, 1200))
    ]
    if draw(st.booleans()):
        return [udp(src, dst, bytes(size), ident=7 + n) for n, size in enumerate(sizes)]
    starts = accumulate(sizes, initial=1)
    return [
        tcp(
            src,
            dst,
            bytes(size),
            seq=seq,
            ident=7 + n,
            flags=draw(st.sampled_from([0x10, 0x10, 0x10, 0x18])),
            tos=draw(st.sampled_from([0, 0, 0, 3])),
        )
        for n, (seq, size) in enumerate(zip(starts, sizes, strict=False))
    ]


steps = st.one_of(
    st.tuples(st.just("host"), packets("out")),
    st.tuples(
        st.just("super"),
        st.tuples(
            st.integers(1, 5000),
            st.sampled_from([0, 50, 536, 1200]),
            st.sampled_from([0x10, 0x99]),
            st.booleans(),
        ),
    ),
    st.tuples(
        st.just("peer"),
        st.tuples(st.integers(1, 3), st.lists(packets("in"), min_size=1, max_size=6)),
    ),
    st.tuples(st.just("relay"), st.lists(packets("in"), min_size=1, max_size=6)),
    st.tuples(st.just("relay"), trains()),
    st.tuples(
        st.just("garbage"),
        st.one_of(
            st.binary(max_size=100),
            st.sampled_from([1, 2, 3, 4]).flatmap(
                lambda kind: st.sampled_from([64, 92, 148]).map(
                    lambda size: bytes([kind, 0, 0, 0]) + bytes(size - 4)
                )
            ),
        ),
    ),
    st.tuples(st.just("counter"), st.integers(0, 20_000)),
    st.tuples(st.just("plain"), packets("out")),
    st.tuples(st.just("filter"), st.sampled_from([*FILTERS])),
    st.tuples(st.just("wake"), st.sampled_from([*Wake])),
    st.tuples(st.just("keepalive"), st.none()),
    st.tuples(st.just("discard"), st.none()),
    st.tuples(st.just("allowed"), st.sampled_from([THEM, STRANGER])),
    st.tuples(st.just("known"), st.booleans()),
    st.tuples(st.just("session"), st.booleans()),
    st.tuples(st.just("drop"), st.integers(1, 3)),
    st.tuples(st.just("path"), st.tuples(st.sampled_from([0, 1, 2]), st.booleans())),
    st.tuples(
        st.just("via"),
        st.tuples(
            st.sampled_from(
                [b"\0\0\x7a\x12\0\0\1\0", b"\0\0\x7a\x12\1\2\3\0", b"\0\x80\x7a\x12\0\0\1\0"]
            ),
            st.lists(packets("in"), min_size=1, max_size=4),
        ),
    ),
    st.tuples(
        st.just("garbage"),
        st.tuples(
            st.sampled_from([0, 0, 0, 1]),
            st.sampled_from([0, 0x80, 0x40]),
            st.sampled_from([0x11, 0x12, 0x13]),
            st.sampled_from([0, 5]),
            st.sampled_from(
                [
                    b"",
                    b"TS\xf0\x9f\x92\xac" + bytes(56),
                    bytes([1, 0, 0, 0]) + bytes(144),
                    bytes([4, 0, 0, 0]) + bytes(40),
                    bytes([2, 0, 0, 0]) + bytes(88),
                    bytes(20),
                ]
            ),
        ).map(lambda v: bytes([v[0], v[1], 0x7A, v[2], 0, 0, v[3], 0]) + v[4]),
    ),
    st.tuples(st.just("forged"), st.integers(0, 90)),
)


class Player:
    """Plays steps on one implementation, and writes down what came out on each side.

    A second peer, which no step touches, ends each step: its packet goes around on both ways, and
    what came before it is the step's output.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.log: list[object] = []
        self.sessions = [7]
        self.counters: Counter[int] = Counter()
        self.allowed = THEM

    async def run(self, plan: list[Step]) -> list[object]:
        """All steps; each is over before the next begins."""
        rig, dp = self.rig, self.rig.datapath
        dp.set_local(MINE)
        self._do_allowed(THEM)
        dp.set_path(OTHER, Path(rig.remote_addr, relay=False))
        for peer, index in ((OTHER, OTHER_INDEX), (PEER, 7)):
            dp.set_session(peer, rig.session(index))
            await rig.receive()
        for kind, value in plan:
            getattr(self, f"_do_{kind}")(value)
            await self.settle(kind)
        # Which of two packets of one moment comes first, one sent and one received, is chance.
        activity = dp.activity(PEER)._replace(unheard_since=None, unanswered_since=None)
        return [*self.log, activity, rig.dropped()]

    async def settle(self, kind: str) -> None:
        """Everything is out; write it down."""
        rig = self.rig
        # What a mark's batch set off is over when the next mark is through.
        sent = await self.sent() + await self.sent()
        flows: dict[bytes, list[bytes]] = {}
        for _ in range(2):
            rig.remote.sendto(self.sealed(IN_MARK, OTHER_INDEX), rig.udp_addr)
            while (packet := await rig.delivered())[-len(IN_MARK) :] != IN_MARK:
                for key, one in apart(packet, vnet=rig.vnet):
                    flows.setdefault(key, []).append(one)
        self.log.append((kind, "delivered", flows))
        sent += await self.sent()
        self.log.append((kind, "sent", sent))
        # What waited for a session may leave before or after the next datagram is read.
        upcalls = sorted(rig.datapath.take_upcalls(1000), key=lambda u: isinstance(u, Woke))
        here = str(rig.remote_addr.port)  # differs from run to run
        self.log.append((kind, "upcalls", [repr(u).replace(here, "") for u in upcalls]))
        rig.clock.now += 1

    async def sent(self) -> list[bytes]:
        """What was sent before a mark that leaves now."""
        self.host(OUT_MARK)
        out = []
        while (datagram := await self.rig.receive())[4:8] != OTHER_INDEX_SENT:
            out.append(datagram)
        return out

    def host(self, packet: bytes) -> None:
        """A packet of the host."""
        self.rig.host.send(bytes(10) + packet if self.rig.vnet else packet)

    def sealed(self, packet: bytes, index: int) -> bytes:
        """A datagram of a peer."""
        self.counters[index] += 1
        return self.rig.seal(packet, self.counters[index], index)

    # what a step does

    def _do_host(self, packet: bytes) -> None:
        if packet:  # an empty one ends the socket that stands for the device
            self.host(packet)

    def _do_super(self, value: tuple[int, int, int, bool]) -> None:
        size, gso, flags, six = value
        src, dst = PAIRS["out"][six]
        packet = tcp(src, dst, bytes(range(250)) * (size // 250 + 1), flags=flags)
        kind, header = (b"\x04", b"\x28") if six else (b"\x01", b"\x14")
        hint = b"\x01" + kind + b"\0\0" + gso.to_bytes(2, "little") + header + b"\0\x10\0"
        self.rig.host.send(hint + packet if self.rig.vnet else packet)

    def _do_peer(self, value: tuple[int, list[bytes]]) -> None:
        index = self.sessions[-min(value[0], len(self.sessions))]
        for packet in value[1]:
            self.rig.remote.sendto(self.sealed(packet, index), self.rig.udp_addr)

    def _do_relay(self, value: list[bytes]) -> None:
        index = self.sessions[-1]
        self.rig.datapath.relay_in([self.sealed(packet, index) for packet in value])

    def _do_garbage(self, data: bytes) -> None:
        self.rig.remote.sendto(data, self.rig.udp_addr)

    def _do_forged(self, at: int) -> None:
        data = bytearray(self.sealed(IN_MARK, self.sessions[-1]))
        data[at % len(data)] ^= 1
        self.rig.remote.sendto(data, self.rig.udp_addr)

    def _do_counter(self, counter: int) -> None:
        self.rig.remote.sendto(self.rig.seal(b"", counter, self.sessions[-1]), self.rig.udp_addr)

    def _do_plain(self, packet: bytes) -> None:
        self.rig.datapath.send_plain(PEER, [packet])

    def _do_filter(self, name: str) -> None:
        self.rig.datapath.set_filter(FILTERS[name]())

    def _do_wake(self, wake: Wake) -> None:
        self.rig.datapath.set_wake(PEER, wake)

    def _do_keepalive(self, _: None) -> None:
        self.rig.datapath.send_keepalive(PEER)

    def _do_discard(self, _: None) -> None:
        self.rig.datapath.discard_queue(PEER)

    def _do_allowed(self, address: str) -> None:
        also = THEM6 if address == THEM else STRANGER6
        entry = PeerEntry((ip_network(address), ip_network(also)))
        other = PeerEntry((ip_network(ELSE),))
        self.rig.datapath.set_peers({PEER: entry, OTHER: other})

    def _do_known(self, masked: bool) -> None:
        known = ((ip_address(ME), ip_address(KNOWN)), (ip_address(ME6), ip_address(KNOWN6)))
        entry = PeerEntry((ip_network(THEM), ip_network(THEM6)), known if masked else ())
        self.rig.datapath.change_peers({PEER: entry})

    def _do_path(self, value: tuple[int, bool]) -> None:
        here = self.rig.remote_addr
        ways = (None, here, ViaAddr(here, 77))
        self.rig.datapath.set_path(PEER, Path(ways[value[0]], relay=value[1]))

    def _do_via(self, value: tuple[bytes, list[bytes]]) -> None:
        index = self.sessions[-1]
        for packet in value[1]:
            self.rig.remote.sendto(value[0] + self.sealed(packet, index), self.rig.udp_addr)

    def _do_session(self, initiator: bool) -> None:
        index = self.sessions[-1] + 2
        self.sessions.append(index)
        self.rig.datapath.set_session(PEER, self.rig.session(index, initiator=initiator))

    def _do_drop(self, back: int) -> None:
        self.rig.datapath.drop_session(self.sessions[-min(back, len(self.sessions))])


def apart(packet: bytes, *, vnet: bool) -> list[tuple[bytes, bytes]]:
    """Flow and bytes of each packet of one write, without IPv4's identification and checksum."""
    if vnet:
        buffer = bytearray(packet)
        parts = [bytes(buffer[a:b]) for a, b in split(buffer, len(packet))]
    else:
        parts = [packet]
    out = []
    for part in parts:
        parsed = parse_untrusted(part)
        if parsed.version == 6:
            out.append((bytes([parsed.proto]) + part[8:44], part))
        else:
            out.append((bytes([parsed.proto]) + part[12:24], part[:4] + part[6:10] + part[12:]))
    return out


def wide() -> list[MakeDatapath]:
    """The native datapath with another cipher, where that is installed."""
    return [] if why_not(AeadChoice.IPSEC_MB) else [make_native_wide]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("vnet_hdr", [False, True], ids=["plain", "offload"])
@given(plan=st.lists(steps, min_size=1, max_size=25))
@settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "150")), deadline=None)
async def test_both_do_the_same(plan: list[Step], *, vnet_hdr: bool) -> None:
    """Datagrams, packets in order within a flow, upcalls, activity and drop counters."""
    logs = []
    for make in (make_reference, make_native, *wide()):
        rig = Rig(make, vnet_hdr=vnet_hdr)
        try:
            logs.append(await Player(rig).run(plan))
        finally:
            rig.close()
    for expected, *others in zip(*logs, strict=True):
        assert all(got == expected for got in others)
