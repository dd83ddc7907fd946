"""All peers: who is who, and whom to believe."""

import itertools
from errno import EHOSTUNREACH

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.datapath.interface import NO_PATH, Path
from tailnet.agent.disco.envelope import Sealer
from tailnet.agent.disco.messages import (
    CallMeMaybe,
    Message,
    Ping,
    Pong,
    encode,
    parse_untrusted,
)
from tailnet.agent.keys import DiscoPrivate, DiscoPublic, NodePublic, PeerId, RelayAddr
from tailnet.agent.magicsock.hub import (
    Event,
    Hub,
    PathChanged,
    PeerInfo,
    PingDone,
    SetWake,
    Transmit,
    WantEndpoints,
)
from tailnet.agent.wireguard.session import Source

ME = DiscoPrivate.from_random(b"m" * 32)
MY_NODE = NodePublic(b"M" * 32)
A = AddrPort.parse("1.1.1.1:1")
B = AddrPort.parse("2.2.2.2:2")
MINE = AddrPort.parse("5.5.5.5:5")
P, Q = PeerId(1), PeerId(2)
ZERO = DiscoPublic(bytes(32))
RELAY = Path(None, relay=True)


class Remote:
    """A peer's keys."""

    def __init__(self, n: int) -> None:
        private = DiscoPrivate.from_random(bytes([n]) * 32)
        self.sealer = Sealer(private)
        self.disco = public_of(private)
        self.node = NodePublic(bytes([n]) * 32)

    def info(self, *endpoints: AddrPort, region: int = 1) -> PeerInfo:
        """As control describes it."""
        return PeerInfo(self.node, self.disco, endpoints, region)

    def seal(self, message: Message) -> bytes:
        """To us."""
        return self.sealer.seal(public_of(ME), b"n" * 24, encode(message))

    def open(self, data: bytes) -> Message | None:
        """From us."""
        return parse_untrusted(self.sealer.open_untrusted(data))


PEER, OTHER = Remote(1), Remote(2)


def hub(*peers: PeerInfo, direct: bool = True) -> Hub:
    """A hub that has told everything so far."""
    counter = itertools.count(1)
    it = Hub(ME, random_bytes=lambda n: next(counter).to_bytes(n, "big"), direct=direct)
    it.set_node_key(MY_NODE)
    it.set_own_endpoints((MINE,), 0.0)
    it.set_peers({PeerId(i): p for i, p in enumerate(peers, 1)}, 0.0)
    events(it)
    return it


def events(it: Hub) -> list[Event]:
    """Drain."""
    return list(iter(it.poll_event, None))


def sent(it: Hub) -> list[Transmit]:
    """Drain."""
    return list(iter(it.poll_transmit, None))


def mail(it: Hub, remote: Remote = PEER) -> list[tuple[Source, Message | None]]:
    """Drain and open."""
    return [(dst, remote.open(data)) for dst, data, _ in sent(it)]


def connect(it: Hub, src: AddrPort = A, remote: Remote = PEER, peer: PeerId = P) -> None:
    """Make ``src`` the trusted path."""
    it.note_data_sent(peer, 1.0)
    for dst, message in mail(it, remote):
        if dst == src and isinstance(message, Ping):
            it.handle_disco_untrusted(remote.seal(Pong(message.txid, MINE)), src, 1.01)
    assert it.route(peer) == Path(src, relay=False)
    events(it)


def test_new_peers_get_a_path_and_a_wake_but_no_timer() -> None:
    """Ten thousand at rest cost nothing."""
    it = hub()
    info = PEER.info(A)
    infos = {
        PeerId(n): info._replace(node_key=NodePublic(n.to_bytes(32, "big")))
        for n in range(1, 10_001)
    }
    it.set_peers(infos, 0.0)
    told = events(it)
    assert sum(isinstance(e, SetWake) for e in told) == 10_000
    assert sum(e == PathChanged(P, RELAY, None) for e in told) == 1
    assert it.next_timeout() is None
    assert not sent(it)
    it.set_peers(dict(infos), 1.0)
    assert not events(it)


def test_first_data_pings_and_calls_through_the_home_relay() -> None:
    """The ping names our node; the call lists our endpoints."""
    it = hub(PEER.info(A, region=4))
    it.note_data_sent(P, 1.0)
    (to, ping), (relay, call) = mail(it)
    assert (to, relay) == (A, RelayAddr(4, PEER.node))
    assert isinstance(ping, Ping)
    assert ping.node_key == MY_NODE
    assert call == CallMeMaybe((MINE,))


def test_ping_is_answered_to_where_it_came_from() -> None:
    """By UDP to the source, through a relay to the stamped node."""
    it = hub(PEER.info())
    ping = PEER.seal(Ping(b"t" * 12, PEER.node))
    it.handle_disco_untrusted(ping, B, 1.0)
    assert mail(it) == [(B, Pong(b"t" * 12, B))]
    src = RelayAddr(9, PEER.node)
    it.handle_disco_untrusted(ping, src, 1.0)
    assert mail(it) == [(src, Pong(b"t" * 12, AddrPort.parse("127.3.3.40:9")))]


def test_duplicate_ping_is_answered_once() -> None:
    """Raw sockets may deliver twice."""
    it = hub(PEER.info())
    for _ in range(2):
        it.handle_disco_untrusted(PEER.seal(Ping(b"t" * 12, PEER.node)), B, 1.0)
    assert len(sent(it)) == 1
    assert it.drops == {"duplicate": 1}


def test_ping_hint_with_a_foreign_node_key_moves_nothing() -> None:
    """Its content is not authenticated against control's word."""
    it = hub(PEER.info(A), OTHER.info(A))
    it.handle_disco_untrusted(PEER.seal(Ping(b"t" * 12, OTHER.node)), B, 1.0)
    other, peer = it.status(Q), it.status(P)
    assert other is not None
    assert peer is not None
    assert other.candidates == (A,)
    assert peer.candidates == (A, B)


def test_pong_from_another_address_credits_the_pinged_one() -> None:
    """And teaches no new address."""
    it = hub(PEER.info(A))
    it.note_data_sent(P, 1.0)
    [ping] = [m for d, m in mail(it) if d == A]
    assert isinstance(ping, Ping)
    it.handle_disco_untrusted(PEER.seal(Pong(ping.txid, MINE)), B, 1.1)
    assert it.route(P) == Path(A, relay=False)
    status = it.status(P)
    assert status is not None
    assert (status.cur, status.candidates) == (A, (A,))
    assert status.latency == pytest.approx(0.1)


def test_unsolicited_pong_is_ignored() -> None:
    """No transaction, no path; nor is there one for a peer that is being pinged."""
    it = hub(PEER.info(A))
    it.note_data_sent(P, 0.9)
    it.handle_disco_untrusted(PEER.seal(Pong(b"x" * 12, MINE)), B, 1.0)
    assert it.route(P) == RELAY
    assert it.drops == {"unknown pong": 1}


def test_peers_sharing_a_disco_key_each_get_their_pongs() -> None:
    """Shared nodes and fast user switching make such twins."""
    twin = PEER.info(B)._replace(node_key=OTHER.node)
    it = hub(PEER.info(A), twin)
    connect(it, B, PEER, Q)
    assert it.route(P) == RELAY
    connect(it, A, PEER, P)
    it.handle_disco_untrusted(PEER.seal(Ping(b"t" * 12, None)), MINE, 1.5)
    for peer in (P, Q):
        status = it.status(peer)
        assert status is not None
        assert MINE in status.candidates


@pytest.mark.parametrize(
    ("remote", "src"),
    [
        (PEER, A),
        (PEER, RelayAddr(1, OTHER.node)),
        (OTHER, RelayAddr(1, PEER.node)),
        (PEER, RelayAddr(1, NodePublic(b"?" * 32))),
    ],
    ids=["by UDP", "another's stamp", "another's disco key", "a stranger's stamp"],
)
def test_call_me_maybe_needs_relay_and_agreeing_keys(remote: Remote, src: Source) -> None:
    """Anything else could aim our pings."""
    it = hub(PEER.info(), OTHER.info())
    it.handle_disco_untrusted(remote.seal(CallMeMaybe((B,))), src, 1.0)
    assert not sent(it)
    assert it.drops == {"unbelievable call": 1}


def test_call_me_maybe_is_followed_but_not_returned() -> None:
    """A call for a call would never end."""
    it = hub(PEER.info())
    it.handle_disco_untrusted(PEER.seal(CallMeMaybe((B,))), RelayAddr(1, PEER.node), 1.0)
    [(to, message)] = mail(it)
    assert to == B
    assert isinstance(message, Ping)


def test_old_endpoints_are_told_at_once_and_again_if_they_were_wrong() -> None:
    """A NAT forgets after 30 s; whoever was told what it forgot hears the news."""
    it = hub(PEER.info(A), OTHER.info(A))
    everybody = [RelayAddr(1, PEER.node), RelayAddr(1, OTHER.node)]
    it.note_data_sent(P, 100.0)
    it.note_data_sent(Q, 100.0)
    assert events(it) == [WantEndpoints()]
    calls = [each for each in sent(it) if isinstance(each.dst, RelayAddr)]
    assert [dst for dst, *_ in calls] == everybody
    assert PEER.open(calls[0].data) == CallMeMaybe((MINE,))
    it.set_own_endpoints((B,), 100.5)
    calls = sent(it)
    assert [dst for dst, *_ in calls] == everybody
    assert PEER.open(calls[0].data) == CallMeMaybe((B,))


def test_old_endpoints_that_are_still_right_are_told_once() -> None:
    """Nobody is called twice for nothing."""
    it = hub(PEER.info(A))
    it.note_data_sent(P, 100.0)
    assert len(sent(it)) == 2  # a ping and a call
    it.set_own_endpoints((MINE,), 100.5)
    assert not sent(it)


def test_endpoints_of_another_network_are_not_told() -> None:
    """The call waits for what is measured here, even if that is the same."""
    it = hub(PEER.info(A))
    it.reset(1.0)
    it.note_data_sent(P, 1.0)
    assert events(it) == [WantEndpoints()]
    assert all(isinstance(dst, AddrPort) for dst, *_ in sent(it))
    it.set_own_endpoints((MINE,), 1.5)
    (call,) = sent(it)
    assert call.dst == RelayAddr(1, PEER.node)
    assert PEER.open(call.data) == CallMeMaybe((MINE,))


def test_strangers_cost_no_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown sender key is dropped before the box is opened."""
    it = hub(PEER.info())
    monkeypatch.setattr(Sealer, "open_untrusted", lambda *_: pytest.fail("opened"))
    it.handle_disco_untrusted(OTHER.seal(Ping(b"t" * 12, None)), A, 1.0)
    assert it.drops == {"unknown sender": 1}


def test_logged_out_node_is_silent() -> None:
    """Without a node key there is no disco."""
    it = hub(PEER.info(A))
    it.set_node_key(NodePublic(bytes(32)))
    it.handle_disco_untrusted(PEER.seal(Ping(b"t" * 12, None)), A, 1.0)
    it.note_data_sent(P, 1.0)
    assert not sent(it)
    assert it.drops == {"unwanted": 1}


def test_relay_only_hub_neither_asks_nor_answers_by_udp() -> None:
    """Through a relay it answers."""
    it = hub(PEER.info(A), direct=False)
    it.note_data_sent(P, 1.0)
    it.handle_disco_untrusted(PEER.seal(Ping(b"t" * 12, None)), A, 1.0)
    assert not sent(it)
    src = RelayAddr(1, PEER.node)
    it.handle_disco_untrusted(PEER.seal(CallMeMaybe((B,))), src, 1.0)
    it.handle_disco_untrusted(PEER.seal(Ping(b"t" * 12, None)), src, 1.0)
    assert [dst for dst, *_ in sent(it)] == [src]
    ticket = it.ping(P, 2.0)
    [(to, ping)] = mail(it)
    assert to == src
    assert isinstance(ping, Ping)
    it.handle_disco_untrusted(PEER.seal(Pong(ping.txid, MINE)), src, 2.5)
    assert events(it) == [PingDone(ticket, P, 0.5, src)]
    assert it.route(P) == RELAY


def test_peer_without_disco_key_is_reached_by_relay_only() -> None:
    """It publishes none; no ping could be sealed for it."""
    it = hub(PEER.info(A)._replace(disco_key=ZERO))
    it.note_data_sent(P, 1.0)
    assert not sent(it)
    assert it.route(P) == RELAY


def test_new_disco_key_keeps_the_path() -> None:
    """The peer restarted; if the path is dead, trust will tell."""
    it = hub(PEER.info(A))
    connect(it)
    it.set_peers({P: PEER.info(A)._replace(disco_key=OTHER.disco)}, 2.0)
    assert it.route(P) == Path(A, relay=False)
    it.handle_disco_untrusted(PEER.seal(Ping(b"t" * 12, None)), A, 2.0)
    assert it.drops["unknown sender"] == 1
    it.handle_disco_untrusted(OTHER.seal(Ping(b"t" * 12, None)), A, 2.0)
    assert mail(it, OTHER) == [(A, Pong(b"t" * 12, A))]


def test_changes_of_endpoints_and_home_keep_the_path() -> None:
    """Only the loss of the very address ends it."""
    it = hub(PEER.info(A))
    connect(it)
    it.set_peers({P: PEER.info(A, B, region=3)}, 2.0)
    assert it.route(P) == Path(A, relay=False)
    assert it.relay(P) == RelayAddr(3, PEER.node)
    it.set_peers({P: PEER.info(B, region=3)}, 3.0)
    assert it.route(P) == RELAY


def test_changing_one_peer_leaves_the_others() -> None:
    """Named ones only; what is gone is gone."""
    it = hub(PEER.info(A), OTHER.info())
    connect(it)
    it.change_peers({P: PEER.info(A, B, region=3)}, 2.0)
    assert it.route(P) == Path(A, relay=False)
    it.change_peers({PeerId(2): None, PeerId(9): None}, 2.0)
    assert it.route(P) == Path(A, relay=False)
    assert it.route(PeerId(2)) == NO_PATH
    it.change_peers({P: None}, 2.0)
    assert it.route(P) == NO_PATH


def test_removed_peer_is_forgotten() -> None:
    """Keys, timers and path."""
    it = hub(PEER.info(A))
    connect(it)
    it.set_peers({}, 2.0)
    assert it.route(P) == NO_PATH
    assert it.next_timeout() is None
    assert it.active_peers == 0
    it.handle_disco_untrusted(PEER.seal(Ping(b"t" * 12, None)), A, 2.0)
    assert it.drops["unknown sender"] == 1
    it.handle_timeout(100.0, lambda _: 0.0)


def test_peer_without_home_is_found_where_it_was_heard_or_at_ours() -> None:
    """The learned relay first, our own home as the last resort."""
    it = hub(PEER.info(region=0))
    assert it.route(P) == NO_PATH
    it.set_home(5, 0.0)
    assert it.relay(P) == RelayAddr(5, PEER.node)
    assert it.route(P) == RELAY
    it.note_relay(RelayAddr(6, PEER.node), 0.0)
    assert it.relay(P) == RelayAddr(6, PEER.node)


def test_reset_voids_paths_and_asks_for_endpoints() -> None:
    """We are on another network."""
    it = hub(PEER.info(A))
    connect(it)
    it.reset(2.0)
    assert it.route(P) == RELAY
    assert WantEndpoints() in events(it)
    assert [dst for dst, *_ in sent(it)] == [A]


def test_wireguard_only_peer_has_no_disco_and_no_relay() -> None:
    """Its endpoint is fixed, until it speaks from elsewhere or the kernel refuses it."""
    info = PeerInfo(PEER.node, ZERO, (A, B), 0, wireguard_only=True)
    it = hub(info)
    it.note_data_sent(P, 1.0)
    assert not sent(it)
    assert it.route(P) == Path(A, relay=False)
    it.path_failed(P, A, EHOSTUNREACH, 1.0)
    assert it.route(P) == Path(B, relay=False)
    it.note_source(P, MINE, 2.0)
    assert it.route(P) == Path(MINE, relay=False)
    assert it.relay(P) is None


def test_source_of_wireguard_is_tried() -> None:
    """An authenticated message shows where the peer is."""
    it = hub(PEER.info(A))
    it.note_data_sent(P, 1.0)
    sent(it)
    it.note_source(P, B, 1.5)
    assert [dst for dst, *_ in sent(it)] == [B]


@given(st.binary(max_size=120), st.sampled_from([A, RelayAddr(1, PEER.node)]))
def test_garbage_only_counts(data: bytes, src: Source) -> None:
    """Raw, behind the magic, and sealed by a peer."""
    it = hub(PEER.info(A))
    sealed = PEER.sealer.seal(public_of(ME), b"n" * 24, data)
    for datagram in (data, sealed[:38] + data, sealed):
        it.handle_disco_untrusted(datagram, src, 1.0)
    at = it.next_timeout()
    assert at is None or at > 1.0
    assert all(dst == src for dst, *_ in sent(it)) or data[:1] == b"\x03"
