"""Frames of the DERP stream, both directions.

::

    frame         kind u8 ‖ length u32 ‖ payload

    01 ServerKey      magic 8 ‖ server key 32 ‖ (future bytes)            server → client
    02 ClientInfo     client key 32 ‖ nonce 24 ‖ box(JSON)                client → server
    03 ServerInfo     nonce 24 ‖ box(JSON)                                server → client
    04 SendPacket     destination 32 ‖ packet                             client → server
    05 RecvPacket     source 32 ‖ packet                                  server → client
    06 KeepAlive      (empty)                                             server → client
    07 NotePreferred  01 or 00                                            client → server
    08 PeerGone       peer 32 ‖ reason u8 (absent: 0)                     server → client
    12 Ping, 13 Pong  8 opaque bytes                                      both
    14 Health         UTF-8 text, empty when well                         server → client
    15 Restarting     reconnect in u32 [ms] ‖ try for u32 [ms]            server → client

Integers are big-endian; unknown kinds are skipped.

Source: tailscale derp/derp.go, derp/derp_client.go, derp/derpserver/derpserver.go.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum

from msgspec import field

from tailnet.agent.crypto.box import NONCE_LEN, Box
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import KEY_LEN, NodePrivate, NodePublic
from tailnet.agent.tailcfg.codec import Struct, decode_untrusted, encode

MAGIC = b"DERP\xf0\x9f\x94\x91"
PROTOCOL_VERSION = 2
HEADER_LEN = 5  # bytes
MAX_PACKET = 1 << 16  # bytes of a relayed packet, keys not counted; derp.go MaxPacketSize
MAX_FRAME = 1 << 20  # bytes of payload; derp_client.go recvTimeout
MAX_INFO = 1 << 18  # bytes of a ClientInfo payload; derp.go MaxInfoLen
MAX_SERVER_KEY = 1 << 10  # bytes of a ServerKey payload
PING_LEN = 8  # bytes

_HEADER = struct.Struct("!BI")
_PACKET_HEADER = struct.Struct("!BI32s")
_RESTARTING = struct.Struct("!II")


class Kind(IntEnum):
    """What a frame is; values not listed are skipped by whoever meets them."""

    SERVER_KEY = 0x01
    CLIENT_INFO = 0x02
    SERVER_INFO = 0x03
    SEND_PACKET = 0x04
    RECV_PACKET = 0x05
    KEEP_ALIVE = 0x06
    NOTE_PREFERRED = 0x07
    PEER_GONE = 0x08
    PING = 0x12
    PONG = 0x13
    HEALTH = 0x14
    RESTARTING = 0x15


class ClientInfo(Struct, frozen=True, omit_defaults=False):
    """What a client says of itself."""

    version: int = field(default=PROTOCOL_VERSION, name="version")
    can_ack_pings: bool = True


class ServerInfo(Struct, frozen=True):
    """What a relay says of itself; rates are 0 when there is no limit."""

    version: int = field(default=0, name="version")
    token_bucket_bytes_per_second: int = 0
    token_bucket_bytes_burst: int = 0


Frame = tuple[int, bytes, list[bytes]]
"""Kind, key, bodies.

Packet frames that follow each other and have one kind and key come as one, ``bodies`` being their
packets; ``key`` has 32 bytes.  All others have an empty key and one body, their payload.
"""


class FrameReader:
    """Cuts a byte stream into frames, however it was chunked."""

    __slots__ = ("_limit", "_need", "_packets", "_partial")

    def __init__(self, packets: Kind, limit: int = MAX_FRAME) -> None:
        """A reader for one direction.

        Args:
            packets: the kind that carries packets in it.
            limit: bytes of payload a frame may have.
        """
        self._packets = int(packets)
        self._limit = limit
        self._partial = bytearray()  # less than one frame
        self._need = HEADER_LEN  # bytes in _partial from which on it is worth looking again

    def feed_untrusted(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes, in order.

        Packet frames too short for a key are left out.

        Raises:
            BadPacket: a frame announces more than the limit; the stream is lost.
        """
        if self._partial:
            self._partial += data
            if len(self._partial) < self._need:
                return []
            data = bytes(self._partial)
            self._partial.clear()
        frames: list[Frame] = []
        unpack, same_key, packet_kind, limit = (
            _HEADER.unpack_from,
            data.startswith,
            self._packets,
            self._limit,
        )
        key = b""
        run: list[bytes] | None = None
        at, size, need = 0, len(data), HEADER_LEN
        while size - at >= HEADER_LEN:
            kind, length = unpack(data, at)
            if length > limit:
                msg = "DERP frame is too long"
                raise BadPacket(msg)
            start = at + HEADER_LEN
            at = start + length
            if at > size:
                at, need = start - HEADER_LEN, HEADER_LEN + length
                break
            if kind != packet_kind:
                frames.append((kind, b"", [data[start:at]]))
                run = None
            elif length >= KEY_LEN:
                body = start + KEY_LEN
                if run is None or not same_key(key, start):
                    key, run = data[start:body], []
                    frames.append((kind, key, run))
                run.append(data[body:at])
        self._partial += data[at:]
        self._need = need
        return frames


def encode_frame(kind: Kind, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEADER.pack(kind, len(payload)) + payload


def encode_packets(kind: Kind, key: NodePublic, packets: Sequence[bytes]) -> list[bytes]:
    """``SendPacket`` or ``RecvPacket`` frames as header, packet, header, packet, … to be joined.

    Packets are taken as they are, not copied; each has at most ``MAX_PACKET`` bytes.
    """
    out: list[bytes] = []
    raw = key.raw
    last, header = -1, b""
    for packet in packets:
        size = len(packet)
        if size != last:  # bulk traffic has one size
            last, header = size, _PACKET_HEADER.pack(kind, KEY_LEN + size, raw)
        out += (header, packet)
    return out


def encode_server_key(key: NodePublic) -> bytes:
    """The greeting of a relay."""
    return encode_frame(Kind.SERVER_KEY, MAGIC + key.raw)


def parse_server_key_untrusted(payload: bytes) -> NodePublic:
    """The relay's key; bytes after it are ignored.

    Raises:
        BadPacket: not a greeting of 40 to 1 024 bytes.
    """
    end = len(MAGIC) + KEY_LEN
    if not payload.startswith(MAGIC) or not end <= len(payload) <= MAX_SERVER_KEY:
        msg = "not a DERP greeting"
        raise BadPacket(msg)
    return NodePublic(payload[len(MAGIC) : end])


def encode_client_info(public: NodePublic, box: Box, nonce: bytes, info: ClientInfo) -> bytes:
    """Who we are, proved by the box: from our node key to the relay's key."""
    return encode_frame(Kind.CLIENT_INFO, public.raw + nonce + box.seal(nonce, encode(info)))


def parse_client_info_untrusted(
    payload: bytes, private: NodePrivate
) -> tuple[NodePublic, Box, ClientInfo]:
    """Key, box and info of a client that proved to own its key.

    Raises:
        BadPacket: wrong size, damaged, or not proved.
    """
    if not KEY_LEN + NONCE_LEN <= len(payload) <= MAX_INFO:
        msg = "bad length of a DERP ClientInfo"
        raise BadPacket(msg)
    public = NodePublic(payload[:KEY_LEN])
    box = Box(private.raw, public.raw)
    return public, box, decode_untrusted(_open(payload[KEY_LEN:], box), ClientInfo)


def encode_server_info(box: Box, nonce: bytes, info: ServerInfo) -> bytes:
    """The relay's answer to ClientInfo."""
    return encode_frame(Kind.SERVER_INFO, nonce + box.seal(nonce, encode(info)))


def parse_server_info_untrusted(payload: bytes, box: Box) -> ServerInfo:
    """The relay's answer to our ClientInfo.

    Raises:
        BadPacket: damaged, or not from the relay.
    """
    return decode_untrusted(_open(payload, box), ServerInfo)


def _open(boxed: bytes, box: Box) -> bytes:
    return box.open_untrusted(boxed[:NONCE_LEN].ljust(NONCE_LEN, b"\0"), boxed[NONCE_LEN:])


def encode_peer_gone(peer: NodePublic, reason: int) -> bytes:
    """``reason``: 0 the peer left, 1 it was never here."""
    return encode_frame(Kind.PEER_GONE, peer.raw + bytes((reason,)))


def parse_peer_gone_untrusted(payload: bytes) -> tuple[NodePublic, int]:
    """Peer and reason.

    Raises:
        BadPacket: too short.
    """
    if len(payload) < KEY_LEN:
        msg = "DERP PeerGone is too short"
        raise BadPacket(msg)
    return NodePublic(payload[:KEY_LEN]), payload[KEY_LEN] if len(payload) > KEY_LEN else 0


def encode_restarting(reconnect_in: float, try_for: float) -> bytes:
    """Both in seconds."""
    payload = _RESTARTING.pack(int(reconnect_in * 1000), int(try_for * 1000))
    return encode_frame(Kind.RESTARTING, payload)


def parse_restarting_untrusted(payload: bytes) -> tuple[float, float]:
    """When to reconnect and how long to try, both in seconds from now.

    Raises:
        BadPacket: too short.
    """
    if len(payload) < _RESTARTING.size:
        msg = "DERP Restarting is too short"
        raise BadPacket(msg)
    reconnect_in, try_for = _RESTARTING.unpack_from(payload)
    return reconnect_in / 1000, try_for / 1000


def packets_of(received: Sequence[Frame], kind: Kind) -> list[tuple[NodePublic, list[bytes]]]:
    """Packets of one kind by their key: keys in order of appearance, packets in order."""
    groups: dict[bytes, list[bytes]] = {}
    for each, key, packets in received:
        if each == kind:
            group = groups.setdefault(key, packets)
            if group is not packets:
                group += packets
    return [(NodePublic(key), packets) for key, packets in groups.items()]
