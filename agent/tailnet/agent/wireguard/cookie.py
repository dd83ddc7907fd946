"""MACs of handshake messages, and the cookies of responders under load.

* mac1, keyed with a hash of the recipient's public key: the sender knows whom it talks to.
* mac2, keyed with a cookie that the recipient sealed earlier: the sender owns its address.  Zeros
  while the sender has no fresh cookie.  Only looked at under load.

Source: WireGuard paper §5.4.4, §5.4.7; wireguard-go device/cookie.go.
"""

from collections.abc import Callable

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.crypto.aead import xopen_untrusted, xseal
from tailnet.agent.crypto.kdf import equal, hash_, mac
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePublic, RelayAddr
from tailnet.agent.wireguard.constants import COOKIE_LIFETIME
from tailnet.agent.wireguard.messages import COOKIE_NONCE_LEN, MAC_LEN, CookieReply
from tailnet.agent.wireguard.session import Source

LABEL_MAC1 = b"mac1----"
LABEL_COOKIE = b"cookie--"

_NO_MAC = bytes(MAC_LEN)


def source_bytes(src: Source) -> bytes:
    """What a cookie is bound to: IP and port, or the node key that a relay vouches for."""
    match src:
        case AddrPort(ip, port):
            return ip.packed + port.to_bytes(2, "big")
        case ViaAddr(relay, vni):
            return b"via" + vni.to_bytes(4, "big") + source_bytes(relay)
        case RelayAddr(_, key):
            return b"relay" + key.raw


def mac1_key(public: NodePublic) -> bytes:
    """With which the first MAC of messages to ``public`` is made."""
    return hash_(LABEL_MAC1 + public.raw)


def has_mac1(key: bytes, message: bytes) -> bool:
    """True if whoever sent an initiation or response knows the public key of ``key``."""
    return equal(mac(key, message[: -2 * MAC_LEN]), _mac1(message))


class CookieChecker:
    """The recipient's side; one per private key.

    Args:
        public: our own key.
        random_bytes: source of secrets and nonces.
    """

    def __init__(self, public: NodePublic, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._mac1_key = mac1_key(public)
        self._cookie_key = hash_(LABEL_COOKIE + public.raw)
        self._secret = b""
        self._secret_until = 0.0

    def has_mac1(self, message: bytes) -> bool:
        """True if the sender knows our public key."""
        return has_mac1(self._mac1_key, message)

    def has_mac2(self, message: bytes, src: Source, now: float) -> bool:
        """True if the sender received a cookie at ``src`` not long ago."""
        if now >= self._secret_until:
            return False
        expected = mac(self._cookie(src), message[:-MAC_LEN])
        return equal(expected, message[-MAC_LEN:])

    def reply(self, message: bytes, receiver: int, src: Source, now: float) -> CookieReply:
        """A cookie for whoever sent ``message`` under its index ``receiver``."""
        if now >= self._secret_until:
            self._secret = self._random_bytes(32)
            self._secret_until = now + COOKIE_LIFETIME
        nonce = self._random_bytes(COOKIE_NONCE_LEN)
        sealed = xseal(self._cookie_key, nonce, self._cookie(src), _mac1(message))
        return CookieReply(receiver, nonce, sealed)

    def _cookie(self, src: Source) -> bytes:
        return mac(self._secret, source_bytes(src))


class CookieGenerator:
    """The sender's side; one per peer.

    Args:
        remote: the peer's key.
    """

    __slots__ = ("_cookie", "_cookie_key", "_cookie_until", "_last_mac1", "_mac1_key")

    def __init__(self, remote: NodePublic) -> None:
        self._mac1_key = hash_(LABEL_MAC1 + remote.raw)
        self._cookie_key = hash_(LABEL_COOKIE + remote.raw)
        self._cookie = b""
        self._cookie_until = 0.0
        self._last_mac1 = b""

    def add_macs(self, head: bytes, now: float) -> bytes:
        """``head``, mac1, mac2: a whole message."""
        self._last_mac1 = mac(self._mac1_key, head)
        head += self._last_mac1
        return head + (mac(self._cookie, head) if now < self._cookie_until else _NO_MAC)

    def take_reply_untrusted(self, reply: CookieReply, now: float) -> None:
        """Keep the cookie for the next messages; nothing is sent because of it.

        The first one counts.  A message that went by several ways may bring one from each, good
        for that way alone, and the quickest is the one that the next message will take.

        Raises:
            BadPacket: not an answer to the last message, or not the first one.
        """
        if not self._last_mac1:
            msg = "cookie that nothing waits for"
            raise BadPacket(msg)
        self._cookie = xopen_untrusted(self._cookie_key, reply.nonce, reply.sealed, self._last_mac1)
        self._cookie_until = now + COOKIE_LIFETIME
        self._last_mac1 = b""


def _mac1(message: bytes) -> bytes:
    return message[-2 * MAC_LEN : -MAC_LEN]
