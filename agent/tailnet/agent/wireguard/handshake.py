"""Handshake messages from the Noise core, and sessions from handshakes.

Values only: nothing here remembers, so a message that turns out bad has changed nothing.

Source: WireGuard paper §5.4; wireguard-go device/noise-protocol.go.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePublic
from tailnet.agent.noise.wireguard.interface import Handshakes, Initiator, Responder
from tailnet.agent.wireguard.messages import (
    Initiation,
    Response,
    encode_initiation,
    encode_response,
    parse_initiation_untrusted,
    parse_response_untrusted,
)
from tailnet.agent.wireguard.session import Session

EPHEMERAL_LEN = 32


@dataclass(frozen=True, slots=True)
class Pending:
    """An initiation of ours that waits for its answer under ``index``."""

    index: int
    noise: Initiator


class Asked(NamedTuple):
    """An initiation of a peer that authenticated; answer it once, or not at all."""

    sender: int
    noise: Responder

    @property
    def remote(self) -> NodePublic:
        """Who asks."""
        return self.noise.remote

    @property
    def timestamp(self) -> bytes:
        """12 bytes, greater than that of any earlier initiation unless this is a replay."""
        return self.noise.timestamp


def initiate(
    handshakes: Handshakes,
    remote: NodePublic,
    index: int,
    timestamp: bytes,
    random_bytes: Callable[[int], bytes],
) -> tuple[Pending, bytes]:
    """A new initiation with our key, and its 116 bytes before the MACs.

    Raises:
        BadPacket: no secret can be shared with ``remote``; trying again is no use.
    """
    noise = handshakes.begin(remote, random_bytes(EPHEMERAL_LEN), timestamp)
    return Pending(index, noise), encode_initiation(Initiation(index, noise.first))


def finish_untrusted(pending: Pending, data: bytes, now: float) -> Session:
    """The session, if ``data`` (92 bytes) answers ``pending``, which stays good if not.

    Raises:
        BadPacket: it does not.
    """
    response = parse_response_untrusted(data)
    if response.receiver != pending.index:
        msg = "answers no pending handshake"
        raise BadPacket(msg)
    keys = pending.noise.finish_untrusted(response.noise)
    return Session(pending.index, response.sender, keys.send, keys.receive, now, initiator=True)


def open_initiation_untrusted(
    handshakes: Handshakes, data: bytes, random_bytes: Callable[[int], bytes]
) -> Asked:
    """Authenticate an initiation (148 bytes) to our key.

    Raises:
        BadPacket: not for our key, or damaged.
    """
    message = parse_initiation_untrusted(data)
    noise = handshakes.read_untrusted(message.noise, random_bytes(EPHEMERAL_LEN))
    return Asked(message.sender, noise)


def answer(asked: Asked, index: int, now: float) -> tuple[Session, bytes]:
    """The responder's session and the response's 60 bytes before the MACs.

    Raises:
        BadPacket: a key of the initiator is a low-order point.
    """
    second, keys = asked.noise.answer()
    session = Session(index, asked.sender, keys.send, keys.receive, now, initiator=False)
    return session, encode_response(Response(index, asked.sender, second))
