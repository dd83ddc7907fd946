"""What every implementation answers to packets that go no further, and to opening segments."""

from ipaddress import ip_address, ip_network

import pytest
from tests.support.datapath import ME, PEER, STRANGER, THEM, Rig, only
from tests.support.packets import checksums_hold, icmp, ip, naive_checksum, pseudo, tcp, udp

from tailnet.agent.datapath import tsmp
from tailnet.agent.datapath.interface import NoSession, PeerEntry, ToAgent
from tailnet.agent.filter.rules import Filter

ME6, THEM6, STRANGER6 = "fd7a::1", "fd7a::2", "fd7a::3"
SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10
MSS_1460 = bytes([2, 4, 1460 >> 8, 1460 & 0xFF])


def both_families(rig: Rig) -> None:
    """We and the peer have IPv6 addresses too."""
    rig.datapath.set_peers({PEER: PeerEntry((ip_network(THEM), ip_network(THEM6)))})
    rig.datapath.set_local([ip_network(ME), ip_network(ME6)])


async def next_opened(rig: Rig) -> bytes:
    """What the peer reads next."""
    return rig.open(await rig.receive())


def error(packet: bytes) -> tuple[str, str, int, int, bytes]:
    """Source, destination, type, code and quote of an ICMP error, which is well formed."""
    if packet[0] >> 4 == 4:
        assert naive_checksum(packet[:20]) == 0
        src, dst, body = ip_address(packet[12:16]), ip_address(packet[16:20]), packet[20:]
        assert naive_checksum(body) == 0
        assert packet[9] == 1
        assert int.from_bytes(packet[2:4], "big") == len(packet)
    else:
        src, dst, body = ip_address(packet[8:24]), ip_address(packet[24:40]), packet[40:]
        assert naive_checksum(pseudo(src, dst, 58, len(body)) + body) == 0
        assert packet[6] == 58
    return str(src), str(dst), body[0], body[1], body[8:]


# --- the filter of a peer, and ours ----------------------------------------------


@pytest.mark.parametrize(("us", "them"), [(ME, THEM), (ME6, THEM6)])
@pytest.mark.parametrize(
    ("rules", "reason"), [(Filter(), "A"), (Filter.shields_up(), "S")], ids=["rules", "shields"]
)
async def test_a_refused_connection_is_answered_with_the_reason(
    rig: Rig, rules: Filter, reason: str, us: str, them: str
) -> None:
    """From the address and in the order of the flow."""
    both_families(rig)
    await rig.connect()
    rig.datapath.set_filter(rules)
    rig.send(tcp(them, us, sport=5000, dport=22, flags=SYN))
    message = tsmp.parse_untrusted(await next_opened(rig))
    header = tsmp.Header(ip_address(us), ip_address(them))
    assert message == tsmp.Rejected(header, 6, reason, 5000, 22, maybe_broken=False)
    assert rig.dropped() == {"in_denied": 1}


async def test_what_opens_no_connection_is_refused_in_silence(rig: Rig) -> None:
    """UDP, ICMP, and what is no SYN."""
    await rig.connect()
    rig.datapath.set_filter(Filter())
    rig.send(udp(THEM, ME))
    rig.send(ip(THEM, ME, 1, bytes([8, 0]) + bytes(8)))
    rig.send(ip(THEM, ME, 47, bytes(8)))
    rig.send(udp(STRANGER, ME))
    rig.send(tcp(THEM, ME, flags=SYN))
    assert isinstance(tsmp.parse_untrusted(await next_opened(rig)), tsmp.Rejected)
    assert rig.datapath.activity(PEER).tx_packets == 1


async def test_a_connection_to_no_address_of_ours_is_refused_too(rig: Rig) -> None:
    """A route that is advertised no more, for example."""
    await rig.connect()
    rig.send(tcp(THEM, STRANGER, flags=SYN))
    message = tsmp.parse_untrusted(await next_opened(rig))
    assert isinstance(message, tsmp.Rejected)
    assert (message.reason, message.header.src) == ("A", ip_address(STRANGER))


async def test_refusals_to_one_peer_are_limited(rig: Rig) -> None:
    """50 at once, 50 a second."""
    await rig.connect()
    rig.datapath.set_filter(Filter())
    rig.datapath.relay_in(
        [rig.seal(tcp(THEM, ME, dport=port, flags=SYN), port) for port in range(200)]
    )
    assert rig.dropped() == {"in_denied": 200}
    assert rig.datapath.activity(PEER).tx_packets == 50
    rig.clock.now += 0.1
    rig.datapath.relay_in([rig.seal(tcp(THEM, ME, flags=SYN), 200 + n) for n in range(20)])
    assert rig.datapath.activity(PEER).tx_packets == 55


@pytest.mark.parametrize(("us", "them"), [(ME, THEM), (ME6, THEM6)])
@pytest.mark.parametrize("reason", tsmp.Reason)
async def test_a_peers_refusal_becomes_an_icmp_error(
    vnet_rig: Rig, reason: tsmp.Reason, us: str, them: str
) -> None:
    """That quotes the segment, so that the kernel believes it; once."""
    rig = vnet_rig
    both_families(rig)
    await rig.connect()
    syn = tcp(us, them, sport=5000, dport=22, flags=SYN, seq=77)
    rig.host.send(bytes(10) + syn)
    left = await next_opened(rig)
    assert left.startswith(syn)
    rejected = tsmp.parse_untrusted(rejection(us, them, reason))
    assert isinstance(rejected, tsmp.Rejected)
    for _ in range(2):
        rig.send(rejection(us, them, reason))
    answer = await rig.delivered()
    assert answer[:10] == bytes(10)
    way = reason in (tsmp.Reason.FORWARDING, tsmp.Reason.TRANSIT)
    codes = ((3, 1) if way else (3, 13)) if us == ME else ((1, 3) if way else (1, 1))
    assert error(answer[10:]) == (them, us, *codes, syn)
    assert len(only(ToAgent, await rig.upcalls(2))) == 2
    mark = tcp(them, us)
    rig.send(mark)
    assert (await rig.delivered())[10:] == mark  # and no second error before it


def rejection(us: str, them: str, reason: tsmp.Reason, flags: bytes = b"", port: int = 22) -> bytes:
    """As a peer sends it."""
    ports = (5000).to_bytes(2, "big") + port.to_bytes(2, "big")
    return ip(them, us, 99, b"!\x06" + reason.encode() + ports + flags)


async def test_a_refusal_that_nobody_asked_for_changes_nothing(rig: Rig) -> None:
    """Another flow, a hint, an old one; the agent hears of all."""
    await rig.connect()
    rig.host.send(tcp(ME, THEM, sport=5000, dport=22, flags=SYN))
    await next_opened(rig)
    rig.send(rejection(ME, THEM, tsmp.Reason.RULES, port=23))
    rig.send(rejection(ME, THEM, tsmp.Reason.RULES, flags=b"\x01"))
    rig.send(ip(THEM, ME, 99, b"!\x06A"))
    assert len(await rig.upcalls(2)) == 2
    rig.clock.now += 6
    rig.send(rejection(ME, THEM, tsmp.Reason.RULES))
    assert len(await rig.upcalls(1)) == 1
    rig.send(mark := tcp(THEM, ME))
    assert await rig.delivered() == mark
    assert rig.dropped() == {"in_malformed": 1}


# --- nobody is there ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("us", "nobody", "codes"), [(ME, STRANGER, (3, 1)), (ME6, STRANGER6, (1, 3))]
)
async def test_a_packet_for_nobody_is_unreachable(
    rig: Rig, us: str, nobody: str, codes: tuple[int, int]
) -> None:
    """As if the destination said it."""
    packet = udp(us, nobody, bytes(1000))
    rig.host.send(packet)
    assert error(await rig.delivered()) == (nobody, us, *codes, packet[:128])
    assert rig.dropped() == {"out_no_peer": 1}


async def test_errors_answers_fragments_and_odd_sources_get_no_error(rig: Rig) -> None:
    """No storm of errors about errors."""
    for packet in (
        icmp(ME, STRANGER, bytes(28), kind=3, code=1),
        icmp(ME, STRANGER, bytes(28), kind=0),
        icmp(ME6, STRANGER6, bytes(28), kind=1, code=3),
        ip(ME, STRANGER, 17, bytes(30), flags=0x00B9),
        udp("0.0.0.0", STRANGER),
        udp("224.0.0.5", STRANGER),
        udp("::", STRANGER6),
        udp("ff02::1", STRANGER6),
    ):
        rig.host.send(packet)
    ping = icmp(ME, STRANGER, bytes(28))
    rig.host.send(ping)
    assert error(await rig.delivered())[-1] == ping
    assert rig.dropped() == {"out_no_peer": 9}


async def test_errors_to_the_host_are_limited(rig: Rig) -> None:
    """100 at once."""
    for _ in range(130):
        rig.host.send(udp(ME, STRANGER))
    for _ in range(100):
        await rig.delivered()
    await rig.connect()
    rig.host.send(udp(ME, THEM))
    await rig.receive()  # so all before it were looked at
    rig.send(mark := udp(THEM, ME))
    assert await rig.delivered() == mark
    assert rig.dropped() == {"out_no_peer": 130}


async def test_a_peer_that_does_not_answer_is_unreachable_in_the_end(rig: Rig) -> None:
    """When its handshake is given up."""
    packet = tcp(ME, THEM, flags=SYN)
    rig.host.send(packet)
    assert await rig.upcalls() == [NoSession(PEER)]
    rig.datapath.discard_queue(PEER)
    assert error(await rig.delivered()) == (THEM, ME, 3, 1, packet)
    assert rig.dropped() == {"out_discarded": 1}


# --- the size of segments -----------------------------------------------------------


@pytest.mark.parametrize("flags", [SYN, SYN_ACK])
@pytest.mark.parametrize(("us", "them", "fits"), [(ME, THEM, 1240), (ME6, THEM6, 1220)])
async def test_opening_segments_ask_for_no_more_than_fits(
    rig: Rig, us: str, them: str, fits: int, flags: int
) -> None:
    """Both ways, wherever the option is; checksums hold."""
    both_families(rig)
    await rig.connect()
    rig.send(b"\x01")  # malformed: uses up a counter
    for options in (MSS_1460 + bytes(4), b"\x01" + MSS_1460 + b"\x01\x01\x00"):
        fitting = options.replace(MSS_1460[2:], fits.to_bytes(2, "big"))
        rig.host.send(tcp(us, them, flags=flags, options=options))
        expected = tcp(us, them, flags=flags, options=fitting)
        assert (await next_opened(rig))[: len(expected)] == expected
        rig.send(tcp(them, us, flags=flags, options=options))
        assert await rig.delivered() == tcp(them, us, flags=flags, options=fitting)


async def test_a_checksum_that_is_only_begun_is_finished_over_the_new_size(vnet_rig: Rig) -> None:
    """As the kernel hands opening segments over."""
    rig = vnet_rig
    await rig.connect()
    whole = tcp(ME, THEM, flags=SYN, options=MSS_1460)
    a, b = ip_address(ME), ip_address(THEM)
    begun = naive_checksum(pseudo(a, b, 6, 24)) ^ 0xFFFF
    hint = b"\x01\0\0\0\0\0\x14\0\x10\0"
    rig.host.send(hint + whole[:36] + begun.to_bytes(2, "big") + whole[38:])
    left = (await next_opened(rig))[: len(whole)]
    assert left[42:44] == (1240).to_bytes(2, "big")
    assert checksums_hold(left)


@pytest.mark.parametrize(
    "packet",
    [
        tcp(ME, THEM, flags=SYN, options=bytes([2, 4, 4, 216])),  # 1240
        tcp(ME, THEM, flags=ACK, options=MSS_1460),
        tcp(ME, THEM, flags=SYN, options=bytes([2, 3, 9, 9])),
        tcp(ME, THEM, flags=SYN, options=bytes([3, 0]) + MSS_1460 + bytes(2)),
        tcp(ME, THEM, flags=SYN, options=bytes([1, 1, 1, 2])),
        tcp(ME, THEM, flags=SYN),
    ],
    ids=["fits", "no SYN", "wrong length", "broken before", "cut off", "none"],
)
async def test_other_segments_stay_as_they_are(rig: Rig, packet: bytes) -> None:
    """Nothing is added, nothing broken is touched."""
    await rig.connect()
    rig.host.send(packet)
    assert (await next_opened(rig))[: len(packet)] == packet
