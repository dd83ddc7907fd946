"""A relay and the clients that use it, or try to."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.disco import geneve, messages
from tailnet.agent.disco.envelope import Sealer
from tailnet.agent.disco.geneve import HEADER_LEN, Header, Protocol
from tailnet.agent.disco.via import NO_CHALLENGE, Bind, Kind, RelayEndpoint
from tailnet.agent.keys import DiscoPrivate
from tailnet.agent.relay import server as relay
from tailnet.agent.relay.server import Datagram, RelayServer

HERE = AddrPort.parse("192.0.2.1:7000")


class Client:
    """One end: a key and an address."""

    def __init__(self, seed: int, addr: str) -> None:
        self.sealer = Sealer(DiscoPrivate(random.Random(seed).randbytes(32)))
        self.addr = AddrPort.parse(addr)
        self.random = random.Random(seed)

    def bind(
        self,
        endpoint: RelayEndpoint,
        other: "Client",
        *,
        step: Kind = Kind.BIND,
        challenge: bytes = NO_CHALLENGE,
        generation: int = 1,
    ) -> bytes:
        """A step towards the relay."""
        message = Bind(step, endpoint.vni, generation, other.sealer.public, challenge)
        sealed = self.sealer.seal(
            endpoint.server, self.random.randbytes(24), messages.encode(message)
        )
        return geneve.encode(Header(Protocol.DISCO, endpoint.vni, control=True)) + sealed

    def challenge(self, datagram: Datagram | None) -> bytes:
        """What the relay asks for."""
        assert datagram is not None
        assert datagram.to == self.addr
        message = messages.parse_untrusted(self.sealer.open_untrusted(datagram.data[HEADER_LEN:]))
        assert isinstance(message, Bind)
        assert message.step is Kind.CHALLENGE
        return message.challenge

    def join(
        self, server: RelayServer, endpoint: RelayEndpoint, other: "Client", now: float
    ) -> None:
        """All three steps."""
        asked = server.handle_datagram_untrusted(self.bind(endpoint, other), self.addr, now)
        proof = self.challenge(asked)
        answer = self.bind(endpoint, other, step=Kind.ANSWER, challenge=proof)
        assert server.handle_datagram_untrusted(answer, self.addr, now) is None


def make() -> tuple[RelayServer, Client, Client]:
    """A relay at time 0, and two clients."""
    server = RelayServer(
        DiscoPrivate(random.Random(9).randbytes(32)),
        random_bytes=random.Random(8).randbytes,
        now=0.0,
    )
    server.set_addresses((HERE,))
    return server, Client(1, "198.51.100.1:1"), Client(2, "[2001:db8::2]:2")


def allocate(server: RelayServer, a: Client, b: Client, now: float = 0.0) -> RelayEndpoint:
    """It has room."""
    endpoint = server.allocate((a.sealer.public, b.sealer.public), now)
    assert endpoint is not None
    return endpoint


def data(endpoint: RelayEndpoint, payload: bytes = b"sealed") -> bytes:
    """WireGuard through the relay."""
    return geneve.encode(Header(Protocol.WIREGUARD, endpoint.vni)) + payload


def test_two_bound_clients_hear_each_other_and_nobody_else_does() -> None:
    """Unchanged, both ways."""
    server, a, b = make()
    endpoint = allocate(server, a, b)
    a.join(server, endpoint, b, 1.0)
    assert server.handle_datagram_untrusted(data(endpoint), a.addr, 1.0) is None
    b.join(server, endpoint, a, 1.0)
    sent = data(endpoint)
    assert server.handle_datagram_untrusted(sent, a.addr, 2.0) == Datagram(b.addr, sent)
    assert server.handle_datagram_untrusted(sent, b.addr, 2.0) == Datagram(a.addr, sent)
    assert server.handle_datagram_untrusted(sent, AddrPort.parse("203.0.113.9:9"), 2.0) is None
    assert server.drops["not bound"] == 1
    (info,) = server.sessions()
    assert info.packets == (1, 1)


def test_a_pair_has_one_session_whoever_asks() -> None:
    """Both may ask at the same time; nobody has one with himself."""
    server, a, b = make()
    assert server.allocate((a.sealer.public, a.sealer.public), 0.0) is None
    assert allocate(server, a, b) == allocate(server, b, a)
    assert len(server.sessions()) == 1


def test_without_an_address_nothing_is_offered() -> None:
    """The client asks again later."""
    server, a, b = make()
    server.set_addresses(())
    assert server.allocate((a.sealer.public, b.sealer.public), 0.0) is None


def test_a_client_that_moved_binds_again() -> None:
    """Its new address takes the place of the old one."""
    server, a, b = make()
    endpoint = allocate(server, a, b)
    a.join(server, endpoint, b, 0.0)
    b.join(server, endpoint, a, 0.0)
    old, a.addr = a.addr, AddrPort.parse("198.51.100.77:7")
    a.join(server, endpoint, b, 1.0)
    assert server.handle_datagram_untrusted(data(endpoint), old, 1.0) is None
    assert server.handle_datagram_untrusted(data(endpoint), b.addr, 1.0) == Datagram(
        a.addr, data(endpoint)
    )


def test_an_answer_from_another_address_than_was_asked_binds_nothing() -> None:
    """A forged source gets a challenge sent to somebody else, and cannot repeat it."""
    server, a, b = make()
    endpoint = allocate(server, a, b)
    proof = a.challenge(server.handle_datagram_untrusted(a.bind(endpoint, b), a.addr, 0.0))
    answer = a.bind(endpoint, b, step=Kind.ANSWER, challenge=proof)
    server.handle_datagram_untrusted(answer, AddrPort.parse("203.0.113.9:9"), 0.0)
    assert server.drops["wrong challenge"] == 1
    assert server.sessions()[0].bound == (None, None)


@pytest.mark.parametrize(("later", "good"), [(1.0, True), (130.0, True), (260.0, False)])
def test_a_challenge_lives_as_long_as_two_secrets(later: float, good: bool) -> None:
    """Then it is void."""
    server, a, b = make()
    endpoint = allocate(server, a, b)
    b.join(server, endpoint, a, 0.0)
    a.join(server, endpoint, b, 0.0)
    bind = a.bind(endpoint, b, generation=2)
    proof = a.challenge(server.handle_datagram_untrusted(bind, a.addr, 0.0))
    server.handle_timeout(later / 2)
    server.handle_timeout(later)
    answer = a.bind(endpoint, b, step=Kind.ANSWER, challenge=proof, generation=2)
    server.handle_datagram_untrusted(answer, a.addr, later)
    assert (server.drops["wrong challenge"] == 0) == good


def test_strangers_and_the_wrong_pair_are_not_answered() -> None:
    """However well they seal."""
    server, a, b = make()
    endpoint = allocate(server, a, b)
    stranger = Client(3, "203.0.113.9:9")
    assert server.handle_datagram_untrusted(stranger.bind(endpoint, b), stranger.addr, 0.0) is None
    assert server.handle_datagram_untrusted(a.bind(endpoint, stranger), a.addr, 0.0) is None
    zero = a.bind(endpoint, b, generation=0)
    assert server.handle_datagram_untrusted(zero, a.addr, 0.0) is None
    of_another = a.bind(endpoint._replace(vni=endpoint.vni + 1), b)[HEADER_LEN:]
    wrapped = geneve.encode(Header(Protocol.DISCO, endpoint.vni, control=True)) + of_another
    assert server.handle_datagram_untrusted(wrapped, a.addr, 0.0) is None
    assert server.drops["not of the session"] == 4


def test_a_session_nobody_binds_ends_and_so_does_an_idle_one() -> None:
    """After 30 seconds and after five minutes; its number may be used again."""
    server, a, b = make()
    endpoint = allocate(server, a, b)
    server.handle_timeout(31.0)
    assert server.sessions() == []
    assert server.deadline() is None
    endpoint = allocate(server, a, b, 40.0)
    a.join(server, endpoint, b, 41.0)
    b.join(server, endpoint, a, 41.0)
    server.handle_datagram_untrusted(data(endpoint), a.addr, 300.0)
    server.handle_timeout(500.0)
    assert len(server.sessions()) == 1
    server.handle_timeout(700.0)
    assert server.sessions() == []


def test_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next is refused, and counted."""
    monkeypatch.setattr(relay, "MAX_SESSIONS", 2)
    server, a, b = make()
    c = Client(3, "203.0.113.9:9")
    allocate(server, a, b)
    allocate(server, a, c)
    assert server.allocate((b.sealer.public, c.sealer.public), 0.0) is None
    assert server.drops["no room"] == 1


@given(st.binary(max_size=300), st.booleans())
def test_no_answer_is_longer_than_what_it_answers(noise: bytes, wrapped: bool) -> None:
    """Noise, bare or in the wrapping of a session; and a Bind is answered by as much."""
    server, a, b = make()
    endpoint = allocate(server, a, b)
    head = geneve.encode(Header(Protocol.DISCO, endpoint.vni, control=True)) if wrapped else b""
    assert server.handle_datagram_untrusted(head + noise, a.addr, 0.0) is None
    bind = a.bind(endpoint, b)
    answer = server.handle_datagram_untrusted(bind, a.addr, 0.0)
    assert answer is not None
    assert len(answer.data) == len(bind)
