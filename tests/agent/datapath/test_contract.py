"""What every implementation of the datapath does; see ``datapath/interface.py``."""

import asyncio
import errno
import os
import socket
import sys
from ipaddress import ip_address, ip_network

import pytest
from tests.support.datapath import (
    ME,
    PEER,
    STRANGER,
    THEM,
    UDP_SEGMENT,
    MakeDatapath,
    Rig,
    only,
    udp_socket,
)
from tests.support.packets import ip, tcp, udp

from tailnet.agent.addr import AddrPort
from tailnet.agent.crypto.kdf import mac
from tailnet.agent.datapath.interface import (
    NO_PATH,
    Confirmed,
    Disco,
    Failed,
    Handshake,
    NewSource,
    NoSession,
    Path,
    PathFailed,
    PeerEntry,
    RelayOut,
    Stun,
    ToAgent,
    UdpPort,
    Wake,
    Woke,
)
from tailnet.agent.filter.rules import Filter
from tailnet.agent.keys import NodePublic, PeerId
from tailnet.agent.wireguard.cookie import mac1_key
from tailnet.agent.wireguard.session import IDLE

SO_NO_CHECK = 11  # socket(7) does not know it
OUT = udp(ME, THEM, b"out there")
IN = udp(THEM, ME, b"in here")


# --- both ways -----------------------------------------------------------------


async def test_a_packet_leaves_sealed_and_padded(rig: Rig) -> None:
    """Padding is zeros up to a multiple of 16, within the MTU."""
    await rig.connect()
    for size in (1, 16, 100, 1252):
        packet = udp(ME, THEM, bytes(size))
        rig.host.send(packet)
        plain = rig.open(await rig.receive())
        full = min(-(-len(packet) // 16) * 16, 1280)
        assert plain == packet + bytes(full - len(packet))


async def test_a_sealed_packet_enters_without_its_padding(rig: Rig) -> None:
    """The IP header says how long it is."""
    await rig.connect()
    rig.send(IN)
    assert await rig.delivered() == IN


async def test_a_super_packet_leaves_in_segments_and_joins_again(vnet_rig: Rig) -> None:
    """Cut, sealed, and on the way back joined into one write."""
    rig = vnet_rig
    await rig.connect()
    data = bytes(range(200)) * 50
    whole = tcp(ME, THEM, data)
    hint = b"\x01\x01\x00\x00" + (1000).to_bytes(2, "little") + b"\x14\x00\x10\x00"
    rig.host.send(hint + whole)
    segments = [rig.open(await rig.receive()) for _ in range(10)]
    for i, segment in enumerate(segments):
        part = tcp(ME, THEM, data[i * 1000 : i * 1000 + 1000], seq=1 + i * 1000, ident=7 + i)
        assert segment[: len(part)] == part
    packet = tcp(THEM, ME, b"x" * 1000)
    rig.send(packet)
    assert await rig.delivered() == bytes(10) + packet


async def test_a_device_that_takes_nothing_joined_gets_each_packet_alone(
    make: MakeDatapath,
) -> None:
    """Where the kernel refuses super-packets, or the user does."""
    rig = Rig(make, vnet_hdr=True, tso=False)
    try:
        await rig.connect()
        first, second = tcp(THEM, ME, bytes(100), seq=1), tcp(THEM, ME, bytes(100), seq=101)
        rig.datapath.relay_in([rig.seal(first, 0), rig.seal(second, 1)])
        assert [await rig.delivered(), await rig.delivered()] == [
            bytes(10) + first,
            bytes(10) + second,
        ]
    finally:
        rig.close()


@pytest.mark.parametrize(("count", "sentinels"), [(3, 0), (8, 1), (70, 2)])
async def test_groups_of_equal_datagrams_end_in_a_sentinel_where_they_must(
    make: MakeDatapath, count: int, sentinels: int
) -> None:
    """A datagram of one byte; few datagrams go one by one."""
    rig = Rig(make, vnet_hdr=True, sentinel=True)
    try:
        await rig.connect()
        packet = tcp(ME, THEM, bytes(100 * count))
        rig.host.send(b"\x01\x01\0\0\x64\0\x14\0\x10\0" + packet)
        got = [await rig.receive() for _ in range(count + sentinels)]
        assert [d for d in got if len(d) == 1] == [b"\x07"] * sentinels
        opened = [rig.open(d) for d in got if len(d) > 1]
        assert len(opened) == count
        rig.remote.sendto(b"\x07", rig.udp_addr)
        rig.send(IN)
        assert (await rig.delivered())[10:] == IN
        assert rig.dropped() == {"in_unknown": 1}
    finally:
        rig.close()


async def test_what_the_kernel_does_not_cut_goes_one_by_one(vnet_rig: Rig) -> None:
    """It refuses to for a socket without checksums; nothing is lost, and the order stays."""
    rig = vnet_rig
    await rig.connect()
    new = udp_socket()
    new.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    segment = [(socket.IPPROTO_UDP, UDP_SEGMENT, (1000).to_bytes(2, sys.byteorder))]
    with pytest.raises(OSError, match="Invalid argument"):
        new.sendmsg([bytes(3000)], segment, 0, rig.udp_addr)
    rig.datapath.set_udp([UdpPort(new.detach(), socket.AF_INET, gso=True, gro=False)])
    for _ in range(2):
        rig.host.send(b"\x01\x01\0\0\xe8\x03\x14\0\x10\0" + tcp(ME, THEM, bytes(10_000)))
        got = [rig.open(await rig.receive()) for _ in range(10)]
        assert [int.from_bytes(packet[24:28], "big") for packet in got] == [*range(1, 10_000, 1000)]
    assert rig.dropped() == {}


async def test_garbage_from_the_host_is_counted(vnet_rig: Rig) -> None:
    """And what follows goes on."""
    rig = vnet_rig
    await rig.connect()
    for bad in (b"x", bytes(10), bytes(60), b"\x00\x01" + bytes(8) + OUT):
        rig.host.send(bad)
    rig.host.send(bytes(10) + OUT)
    assert rig.open(await rig.receive()).startswith(OUT)
    assert rig.dropped() == {"out_malformed": 4}


async def test_packets_for_nobody_multicast_and_tsmp_do_not_leave(rig: Rig) -> None:
    """Each has its counter."""
    await rig.connect()
    for packet in (udp(ME, STRANGER), udp(ME, "224.0.0.1"), ip(ME, THEM, 99, bytes(9)), OUT):
        rig.host.send(packet)
    assert rig.open(await rig.receive()).startswith(OUT)
    assert rig.dropped() == {"out_no_peer": 1, "out_filter": 1, "out_tsmp": 1}


async def test_the_longest_prefix_wins(rig: Rig) -> None:
    """A host route beats the default route of an exit node."""
    await rig.connect()
    exit_node = PeerId(2)
    host, default = PeerEntry((ip_network(THEM),)), PeerEntry((ip_network("0.0.0.0/0"),))
    rig.datapath.set_peers({exit_node: default, PEER: host})
    rig.host.send(OUT)
    assert rig.open(await rig.receive()).startswith(OUT)
    rig.host.send(udp(ME, "8.8.8.8"))
    assert await rig.upcalls() == [NoSession(exit_node)]


# --- sessions --------------------------------------------------------------------


async def test_packets_wait_for_a_session_that_is_asked_for_once(rig: Rig) -> None:
    """They leave in order when it comes."""
    packets = [udp(ME, THEM, bytes([i]) * 8) for i in range(3)]
    for packet in packets:
        rig.host.send(packet)
    assert await rig.upcalls() == [NoSession(PEER)]
    rig.datapath.set_session(PEER, rig.session())
    assert [rig.open(await rig.receive())[: len(packets[0])] for _ in packets] == packets
    assert rig.datapath.take_upcalls(10) == []


async def test_the_oldest_of_more_than_128_waiting_packets_goes(rig: Rig) -> None:
    """And is counted."""
    packets = [udp(ME, THEM, bytes([i]) * 8) for i in range(130)]
    rig.datapath.send_plain(PEER, packets)
    assert rig.dropped() == {"out_queue_full": 2}
    rig.datapath.set_session(PEER, rig.session())
    assert rig.open(await rig.receive()).startswith(packets[2])


async def test_a_given_up_handshake_drops_what_waits_and_may_be_asked_again(rig: Rig) -> None:
    """discard_queue resets the question."""
    for _ in range(2):
        rig.datapath.send_plain(PEER, [OUT])
        assert await rig.upcalls() == [NoSession(PEER)]
        rig.datapath.discard_queue(PEER)
    assert rig.dropped() == {"out_discarded": 2}


async def test_a_responder_sends_only_after_the_initiator_did(rig: Rig) -> None:
    """The first packet confirms the session; then the queue leaves."""
    rig.datapath.send_plain(PEER, [OUT])
    rig.datapath.set_session(PEER, rig.session(initiator=False))
    assert rig.datapath.take_upcalls(10) == [NoSession(PEER)]
    rig.send(b"")
    assert rig.open(await rig.receive()).startswith(OUT)
    assert only(Confirmed, await rig.upcalls()) == [Confirmed(PEER, 7)]


async def test_a_forged_packet_proves_nothing(rig: Rig) -> None:
    """Nor does a good one that is too late: the responder still waits."""
    rig.datapath.send_plain(PEER, [OUT])
    rig.datapath.set_session(PEER, rig.session(initiator=False))
    assert rig.datapath.take_upcalls(10) == [NoSession(PEER)]
    forged = bytearray(rig.seal(b"", 0))
    forged[-1] ^= 1
    disco = b"TS\xf0\x9f\x92\xac" + bytes(100)
    for late in (0, 180):
        rig.clock.now += late
        rig.remote.sendto(forged if not late else rig.seal(b"", 1), rig.udp_addr)
        rig.remote.sendto(disco, rig.udp_addr)
        (last,) = await rig.upcalls()
        assert isinstance(last, Disco)
    assert rig.dropped() == {"in_forged": 1, "in_expired": 1}
    with pytest.raises(BlockingIOError):
        rig.remote.recv(100)


async def test_the_previous_session_still_receives(rig: Rig) -> None:
    """Until it is pushed out of its slot."""
    await rig.connect(7)
    await rig.connect(9)
    rig.send(IN, 0, 7)
    assert await rig.delivered() == IN
    await rig.connect(11)
    rig.send(IN, 1, 7)
    rig.send(IN, 0, 9)
    assert await rig.delivered() == IN
    assert rig.dropped() == {"in_no_session": 1}


async def test_replays_and_forgeries_are_dropped(rig: Rig) -> None:
    """Each has its counter; reordering is fine."""
    await rig.connect()
    datagram = rig.send(IN, 5)
    rig.remote.sendto(datagram, rig.udp_addr)
    rig.remote.sendto(datagram[:-1] + bytes([datagram[-1] ^ 1]), rig.udp_addr)
    rig.send(IN, 4)
    assert [await rig.delivered(), await rig.delivered()] == [IN, IN]
    assert rig.dropped() == {"in_replay": 1, "in_forged": 1}


async def test_a_session_of_180_seconds_is_dead_both_ways(rig: Rig) -> None:
    """It neither receives nor sends; a new one is asked for."""
    await rig.connect(7)
    rig.clock.now += 180
    rig.send(IN, 0, 7)
    rig.host.send(OUT)
    assert only(NoSession, await rig.upcalls()) == [NoSession(PEER)]
    rig.datapath.set_session(PEER, rig.session(9))
    assert rig.open(await rig.receive(), 9).startswith(OUT)
    rig.send(IN, 0, 9)
    assert await rig.delivered() == IN
    assert rig.dropped() == {"in_expired": 1}


async def test_a_dropped_session_is_forgotten(rig: Rig) -> None:
    """In whichever slot it was."""
    await rig.connect()
    rig.datapath.drop_session(7)
    rig.datapath.drop_session(7)
    rig.host.send(OUT)
    assert await rig.upcalls() == [NoSession(PEER)]


async def test_a_gone_peer_loses_everything(rig: Rig) -> None:
    """And comes back as a new one."""
    await rig.connect()
    rig.datapath.set_peers({})
    assert rig.datapath.activity(PEER) == IDLE
    rig.datapath.set_peers({PEER: PeerEntry((ip_network(THEM),))})
    assert rig.datapath.activity(PEER) == IDLE
    rig.host.send(OUT)
    assert await rig.upcalls() == [NoSession(PEER)]


async def test_changing_some_peers_leaves_the_others(rig: Rig) -> None:
    """One comes, one goes, one has other prefixes; sessions stay."""
    await rig.connect()
    other = PeerId(2)
    rig.datapath.change_peers({other: PeerEntry((ip_network(STRANGER),)), PeerId(9): None})
    rig.host.send(udp(ME, STRANGER))
    assert await rig.upcalls() == [NoSession(other)]
    rig.datapath.change_peers({other: None})
    rig.host.send(udp(ME, STRANGER))
    rig.host.send(OUT)
    assert rig.open(await rig.receive()).startswith(OUT)
    rig.datapath.change_peers({PEER: PeerEntry((ip_network(STRANGER),))})
    rig.host.send(udp(ME, STRANGER))
    assert rig.open(await rig.receive()).startswith(udp(ME, STRANGER))
    rig.datapath.change_peers({PEER: None})
    assert rig.datapath.activity(PEER) == IDLE


async def test_of_two_that_claim_a_prefix_the_later_has_it(rig: Rig) -> None:
    """A changed peer keeps its place, and what is given up goes back."""
    await rig.connect()
    other, common = PeerId(2), ip_network("10.0.0.0/8")
    own = {PEER: PeerEntry((ip_network(THEM), common)), other: PeerEntry((common,))}
    packet = udp(ME, "10.1.1.1")

    async def goes_to(change: dict[PeerId, PeerEntry | None]) -> PeerId:
        rig.datapath.change_peers(change)
        before = rig.datapath.activity(PEER).tx_packets
        rig.datapath.discard_queue(other)
        rig.host.send(packet)
        rig.host.send(OUT)
        while not rig.open(await rig.receive()).startswith(OUT):
            pass
        return PEER if rig.datapath.activity(PEER).tx_packets == before + 2 else other

    assert await goes_to({PEER: own[PEER]}) == PEER
    assert await goes_to({other: own[other]}) == other
    assert await goes_to({PEER: own[PEER]}) == other
    assert await goes_to({other: None}) == PEER
    assert await goes_to({other: own[other]}) == other
    assert await goes_to({PEER: PeerEntry((ip_network(THEM),))}) == other
    assert await goes_to({PEER: own[PEER]}) == other
    rig.datapath.set_peers({other: own[other], PEER: own[PEER]})
    assert await goes_to({}) == PEER


async def test_a_changed_peer_keeps_its_session(rig: Rig) -> None:
    """Only its prefixes change."""
    await rig.connect()
    rig.datapath.set_peers({PEER: PeerEntry((ip_network(STRANGER),))})
    rig.host.send(OUT)
    rig.host.send(udp(ME, STRANGER))
    assert rig.open(await rig.receive()).startswith(udp(ME, STRANGER))
    assert rig.dropped() == {"out_no_peer": 1}


# --- what may enter ---------------------------------------------------------------


async def test_a_peer_cannot_use_a_source_that_is_not_its_own(rig: Rig) -> None:
    """Nor another peer's, be it of a flow that is under way."""
    other = PeerId(9)
    rig.datapath.set_peers(
        {PEER: PeerEntry((ip_network(THEM),)), other: PeerEntry((ip_network(STRANGER),))}
    )
    await rig.connect()
    rig.datapath.set_session(other, rig.session(9, initiator=False))
    theirs = udp(STRANGER, ME)
    rig.send(theirs, 0, 9)
    assert await rig.delivered() == theirs
    rig.send(theirs)
    rig.send(udp("100.64.0.200", ME))
    rig.send(IN)
    assert await rig.delivered() == IN
    assert rig.dropped() == {"in_source": 2}


async def test_the_filter_and_the_local_set_decide(rig: Rig) -> None:
    """Denied, foreign and malformed packets have their counters."""
    await rig.connect()
    rig.send(udp(THEM, STRANGER))
    rig.send(b"\x45" + bytes(31))
    rig.send(IN)
    assert await rig.delivered() == IN
    rig.datapath.set_filter(Filter.shields_up())
    rig.send(IN)
    rig.send(tcp(THEM, ME))
    assert await rig.delivered() == tcp(THEM, ME)
    assert rig.dropped() == {"in_not_local": 1, "in_malformed": 1, "in_denied": 1}


async def test_before_the_first_filter_nothing_enters(make: MakeDatapath) -> None:
    """Deny is the default."""
    rig = Rig(make)
    rig.datapath.set_filter(Filter())
    try:
        await rig.connect()
        rig.send(IN)
        rig.send(ip(THEM, ME, 99, bytes(9)))
        assert len(await rig.upcalls()) == 1
        assert rig.dropped() == {"in_denied": 1}
    finally:
        rig.close()


async def test_replies_to_the_daemons_own_packets_enter(rig: Rig) -> None:
    """send_plain notes flow state."""
    await rig.connect()
    rig.datapath.set_filter(Filter.shields_up())
    rig.datapath.send_plain(PEER, [udp(ME, THEM, b"q", sport=5, dport=53)])
    await rig.receive()
    answer = udp(THEM, ME, b"a", sport=53, dport=5)
    rig.send(answer)
    assert await rig.delivered() == answer


async def test_flows_end_with_the_network(rig: Rig) -> None:
    """Another account may have the same addresses: an answer to the one before does not enter."""
    await rig.connect()
    rig.datapath.set_filter(Filter.shields_up())
    rig.datapath.send_plain(PEER, [udp(ME, THEM, b"q", sport=5, dport=53)])
    await rig.receive()
    rig.datapath.set_local([])
    rig.datapath.set_local([ip_network(ME)])
    rig.send(udp(THEM, ME, b"a", sport=53, dport=5))
    rig.datapath.send_plain(PEER, [udp(ME, THEM, b"q", sport=6, dport=53)])
    await rig.receive()
    answer = udp(THEM, ME, b"a", sport=53, dport=6)
    rig.send(answer)
    assert await rig.delivered() == answer
    assert rig.dropped() == {"in_denied": 1}


async def test_tsmp_goes_to_the_agent_and_nowhere_else(rig: Rig) -> None:
    """Whatever the filter says."""
    await rig.connect()
    rig.datapath.set_filter(Filter.shields_up())
    tsmp = ip(THEM, ME, 99, b"p12345678")
    rig.send(tsmp)
    assert await rig.upcalls() == [ToAgent(PEER, tsmp)]


async def test_other_datagrams_go_to_the_slow_path(rig: Rig) -> None:
    """Handshakes by exact size, disco, STUN; the rest is counted."""
    handshakes = [bytes([t, 0, 0, 0]) + bytes(n - 4) for t, n in ((1, 148), (2, 92), (3, 64))]
    disco = b"TS\xf0\x9f\x92\xac" + bytes(56)
    stun = b"\x01\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
    bad = [b"\x07", bytes(3), handshakes[0] + b"x", b"\x04\0\0\0" + bytes(40)]
    for datagram in [*bad, *handshakes, disco, stun]:
        rig.remote.sendto(datagram, rig.udp_addr)
    src = rig.remote_addr
    expected = [*(Handshake(src, h) for h in handshakes), Disco(src, disco), Stun(src, stun)]
    assert await rig.upcalls(5) == expected
    assert rig.dropped() == {"in_unknown": 3, "in_no_session": 1}


async def test_handshakes_for_another_key_stay_outside(rig: Rig) -> None:
    """Once our own key is known; a cookie reply has no first MAC."""
    public = NodePublic(bytes(range(32)))
    rig.datapath.set_public_key(public)
    good, bad = (
        bytes([1, 0, 0, 0]) + bytes(112) + mac(mac1_key(key), bytes([1, 0, 0, 0]) + bytes(112))
        for key in (public, NodePublic(bytes(32)))
    )
    cookie = bytes([3, 0, 0, 0]) + bytes(60)
    for datagram in (bad + bytes(16), good + bytes(16), cookie):
        rig.remote.sendto(datagram, rig.udp_addr)
    src = rig.remote_addr
    assert await rig.upcalls(2) == [Handshake(src, good + bytes(16)), Handshake(src, cookie)]
    assert rig.dropped() == {"in_unknown": 1}


# --- paths -----------------------------------------------------------------------


async def test_a_relayed_peer_gets_batches_by_upcall(rig: Rig) -> None:
    """And answers through relay_in."""
    await rig.connect()
    rig.datapath.set_path(PEER, Path(None, relay=True))
    rig.datapath.send_plain(PEER, [OUT, OUT])
    batches = only(RelayOut, await rig.upcalls())
    datagrams = [d for batch in batches for d in batch.datagrams]
    assert [rig.open(d)[: len(OUT)] for d in datagrams] == [OUT, OUT]
    rig.datapath.relay_in([rig.seal(IN, 0), b"", b"junk", rig.seal(IN, 1)])
    assert [await rig.delivered(), await rig.delivered()] == [IN, IN]
    assert rig.datapath.take_upcalls(10) == []  # no source to report


async def test_both_paths_carry_the_same_datagram(rig: Rig) -> None:
    """While the direct one is not trusted."""
    await rig.connect()
    rig.datapath.set_path(PEER, Path(rig.remote_addr, relay=True))
    rig.host.send(OUT)
    direct = await rig.receive()
    assert await rig.upcalls() == [RelayOut(PEER, [direct])]


async def test_without_a_path_packets_are_counted(rig: Rig) -> None:
    """The session lives on."""
    await rig.connect()
    rig.datapath.set_path(PEER, NO_PATH)
    rig.datapath.send_plain(PEER, [OUT])
    assert rig.dropped() == {"out_no_path": 1}


async def test_a_new_source_is_reported_once(rig: Rig) -> None:
    """Until the path changes; traffic is never redirected."""
    await rig.connect()
    with udp_socket() as other:
        for counter in range(3):
            other.sendto(rig.seal(b"", counter), rig.udp_addr)
        rig.send(IN, 3)
        assert await rig.delivered() == IN
        source = AddrPort.of(*other.getsockname())
        assert await rig.upcalls() == [NewSource(PEER, source)]
        rig.datapath.set_path(PEER, Path(source, relay=False))
        other.sendto(rig.seal(IN, 4), rig.udp_addr)
        assert await rig.delivered() == IN
        assert rig.datapath.take_upcalls(10) == []


async def test_a_refused_path_is_reported_once_until_the_next(rig: Rig) -> None:
    """A broadcast address is refused by every kernel."""
    nowhere = AddrPort.parse("255.255.255.255:9")
    await rig.connect()
    for _ in range(2):
        rig.datapath.set_path(PEER, Path(nowhere, relay=False))
        rig.datapath.send_plain(PEER, [OUT])
        rig.datapath.send_plain(PEER, [OUT])
        assert await rig.upcalls() == [PathFailed(PEER, nowhere, errno.EACCES)]
    assert rig.dropped() == {"out_send": 4}


async def test_send_udp_returns_the_errno(rig: Rig) -> None:
    """And never raises."""
    assert rig.datapath.send_udp(rig.remote_addr, [b"one", b"two"]) == 0
    assert [await rig.receive(), await rig.receive()] == [b"one", b"two"]
    assert rig.datapath.send_udp(AddrPort.parse("255.255.255.255:9"), [b"x"]) == errno.EACCES
    assert rig.datapath.send_udp(AddrPort(ip_address("::1"), 9), [b"x"]) == errno.EAFNOSUPPORT


# --- what happened -----------------------------------------------------------------


async def test_activity_tells_data_from_keepalives(rig: Rig) -> None:
    """The lazy timers stand on this."""
    clock, dp = rig.clock, rig.datapath
    await rig.connect()
    assert dp.activity(PEER) == IDLE._replace(last_sent=1000.0, send_counter=1)
    clock.now = 1001.0
    dp.send_plain(PEER, [OUT])
    clock.now = 1002.0
    dp.send_plain(PEER, [OUT])
    activity = dp.activity(PEER)
    assert (activity.last_data_sent, activity.unheard_since) == (1002.0, 1001.0)
    assert (activity.tx_packets, activity.tx_bytes, activity.send_counter) == (2, 2 * len(OUT), 3)
    clock.now = 1003.0
    rig.send(b"")
    rig.send(IN)
    await rig.delivered()
    activity = dp.activity(PEER)
    assert activity.unheard_since is None
    assert (activity.last_data_received, activity.unanswered_since) == (1003.0, 1003.0)
    assert (activity.rx_packets, activity.rx_bytes) == (1, len(IN))
    clock.now = 1004.0
    dp.send_keepalive(PEER)
    activity = dp.activity(PEER)
    assert (activity.last_sent, activity.last_data_sent) == (1004.0, 1002.0)
    assert activity.unanswered_since is None
    assert activity.unheard_since is None
    clock.now = 1005.0
    rig.send(b"")
    async with asyncio.timeout(5):
        while dp.activity(PEER).last_received != 1005.0:  # noqa: ASYNC110 - tells nobody
            await asyncio.sleep(0)
    activity = dp.activity(PEER)
    assert (activity.last_data_received, activity.unanswered_since) == (1003.0, None)
    assert rig.dropped() == {}


async def test_a_wake_fires_once_for_what_it_asked(rig: Rig) -> None:
    """Keepalives wake nobody; asks add up."""
    await rig.connect()
    rig.datapath.set_wake(PEER, Wake.DATA_SENT)
    rig.datapath.set_wake(PEER, Wake.DATA_RECEIVED)
    rig.datapath.send_keepalive(PEER)
    rig.datapath.send_plain(PEER, [OUT, OUT])
    assert await rig.upcalls() == [Woke(PEER, Wake.DATA_SENT)]
    rig.send(b"")
    rig.send(IN)
    rig.send(IN)
    assert [await rig.delivered(), await rig.delivered()] == [IN, IN]
    assert await rig.upcalls() == [Woke(PEER, Wake.DATA_RECEIVED)]


async def test_a_full_queue_of_upcalls_refuses_what_the_network_can_repeat(rig: Rig) -> None:
    """Questions of our own are never lost."""
    rig.datapath.set_session(PEER, rig.session(initiator=False))
    for _ in range(25):
        rig.remote.sendto(bytes([2, 0, 0, 0]) + bytes(88), rig.udp_addr)
    rig.send(IN)
    assert await rig.delivered() == IN
    upcalls = rig.datapath.take_upcalls(100)
    assert len(only(Handshake, upcalls)) == 20
    assert only(Confirmed, upcalls) == [Confirmed(PEER, 7)]
    assert rig.dropped() == {"upcalls_full": 5}


# --- life -----------------------------------------------------------------------------


async def test_new_sockets_replace_the_old(rig: Rig) -> None:
    """After a rebind everything goes on; the old ones are closed."""
    await rig.connect()
    new = udp_socket()
    rig.udp_addr = new.getsockname()
    rig.datapath.set_udp([UdpPort(new.detach(), socket.AF_INET, gso=False, gro=False)])
    rig.host.send(OUT)
    assert rig.open(await rig.receive()).startswith(OUT)
    rig.send(IN)
    assert await rig.delivered() == IN


async def test_a_dead_tun_device_is_reported_and_everything_stops(rig: Rig) -> None:
    """No traceback, one upcall."""
    rig.host.close()
    (failed,) = only(Failed, await rig.upcalls())
    assert failed.reason
    rig.datapath.stop()
    rig.datapath.stop()
    assert rig.datapath.send_udp(rig.remote_addr, [b"x"]) != 0


async def test_a_stopped_datapath_takes_setters_and_does_nothing(rig: Rig) -> None:
    """The slow path may be a moment late."""
    rig.datapath.stop()
    rig.datapath.set_session(PEER, rig.session())
    rig.datapath.send_plain(PEER, [OUT])
    rig.datapath.relay_in([rig.seal(IN, 0)])
    rig.datapath.set_peers({})
    assert os.fstat(rig.datapath.event_fd())
