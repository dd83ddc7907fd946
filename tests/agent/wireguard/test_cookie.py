"""MACs and cookies."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.crypto.x25519 import public_of
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, RelayAddr
from tailnet.agent.wireguard.constants import COOKIE_LIFETIME
from tailnet.agent.wireguard.cookie import CookieChecker, CookieGenerator, source_bytes
from tailnet.agent.wireguard.session import Source

RESPONDER = public_of(NodePrivate(b"\x02" * 32))
OTHER = public_of(NodePrivate(b"\x03" * 32))
HEAD = b"\x01\0\0\0" + bytes(112)
UDP = AddrPort.parse("192.0.2.1:41641")
RELAY = RelayAddr(1, OTHER)
VIA = ViaAddr(UDP, 7)


def pair() -> tuple[CookieChecker, CookieGenerator]:
    """A responder and someone who knows it."""
    return CookieChecker(RESPONDER, Random(1).randbytes), CookieGenerator(RESPONDER)


def test_mac1_tells_who_knows_our_key() -> None:
    """A message for another key has another mac1."""
    checker, generator = pair()
    assert checker.has_mac1(generator.add_macs(HEAD, 0.0))
    assert not checker.has_mac1(CookieGenerator(OTHER).add_macs(HEAD, 0.0))


@pytest.mark.parametrize("src", [UDP, RELAY, VIA, AddrPort.parse("[2001:db8::1]:1")])
def test_cookie_makes_mac2_good_at_its_source_only(src: Source) -> None:
    """After a reply, mac2 is right from where the reply went."""
    checker, generator = pair()
    first = generator.add_macs(HEAD, 0.0)
    assert first.endswith(bytes(16))
    assert not checker.has_mac2(first, src, 0.0)
    generator.take_reply_untrusted(checker.reply(first, 1, src, 0.0), 0.0)
    second = generator.add_macs(HEAD, 5.0)
    assert checker.has_mac2(second, src, 5.0)
    assert not checker.has_mac2(second, AddrPort.parse("192.0.2.2:41641"), 5.0)
    assert not checker.has_mac2(second, AddrPort.parse("192.0.2.1:41642"), 5.0)
    assert not checker.has_mac2(second, RelayAddr(1, RESPONDER), 5.0)
    assert not checker.has_mac2(second, ViaAddr(UDP, 8), 5.0)


def test_cookies_last_120_seconds() -> None:
    """An old cookie is not sent, and an old secret is not accepted."""
    checker, generator = pair()
    reply = checker.reply(generator.add_macs(HEAD, 0.0), 1, UDP, 0.0)
    generator.take_reply_untrusted(reply, 10.0)
    message = generator.add_macs(HEAD, 10.0 + COOKIE_LIFETIME - 0.1)
    assert not message.endswith(bytes(16))
    assert not checker.has_mac2(message, UDP, COOKIE_LIFETIME)
    assert generator.add_macs(HEAD, 10.0 + COOKIE_LIFETIME).endswith(bytes(16))


def test_reply_must_answer_the_last_message() -> None:
    """A cookie is bound to mac1 of what it answers."""
    checker, generator = pair()
    reply = checker.reply(generator.add_macs(HEAD, 0.0), 1, UDP, 0.0)
    generator.add_macs(HEAD + b"x", 1.0)
    with pytest.raises(BadPacket):
        generator.take_reply_untrusted(reply, 1.0)
    with pytest.raises(BadPacket):
        CookieGenerator(RESPONDER).take_reply_untrusted(reply, 1.0)
    assert generator.add_macs(HEAD, 1.0).endswith(bytes(16))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=24, max_size=24))
def test_garbage_is_bad_packet(sealed: bytes, nonce: bytes) -> None:
    """A reply that does not open changes nothing."""
    checker, generator = pair()
    reply = checker.reply(generator.add_macs(HEAD, 0.0), 1, UDP, 0.0)
    with pytest.raises(BadPacket):
        generator.take_reply_untrusted(reply._replace(sealed=sealed, nonce=nonce), 0.0)
    generator.take_reply_untrusted(reply, 0.0)


def test_sources_do_not_collide() -> None:
    """Every kind of source has bytes of its own length."""
    sources: list[Source] = [UDP, RELAY, AddrPort.parse("[2001:db8::1]:1")]
    assert len({len(source_bytes(src)) for src in sources}) == 3
