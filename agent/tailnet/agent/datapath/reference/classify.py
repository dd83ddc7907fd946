"""What a datagram without a known session is."""

from struct import Struct

from tailnet.agent.addr import AddrPort, ViaAddr
from tailnet.agent.datapath.interface import Disco, Handshake, Stun, Upcall
from tailnet.agent.disco import geneve
from tailnet.agent.errors import BadPacket
from tailnet.agent.filter.parse import Buffer

_STUN_COOKIE = b"\x21\x12\xa4\x42"
_DISCO_MAGIC = b"TS\xf0\x9f\x92\xac"
_DISCO_MIN = 62
_HANDSHAKE_SIZES = {1: 148, 2: 92, 3: 64}  # initiation, response, cookie reply

_geneve = Struct(">Q").unpack_from


def classify_untrusted(data: bytes, src: AddrPort) -> Upcall | None:
    """What a datagram without a known session is; ``None`` is nothing we know.

    Source: tailscale wgengine/magicsock/magicsock.go, packetLooksLike.
    """
    size = len(data)
    if size >= 20 and data[0] >> 6 == 0 and data[1] == 1 and data[4:8] == _STUN_COOKIE:
        return Stun(src, data)
    if size >= _DISCO_MIN and data.startswith(_DISCO_MAGIC):
        return Disco(src, data)
    if data[1:4] == b"\0\0\0" and _HANDSHAKE_SIZES.get(data[0]) == size:
        return Handshake(src, data)
    return _classify_via_untrusted(data, src) if data[0] == 0 else None


def _classify_via_untrusted(data: bytes, src: AddrPort) -> Upcall | None:
    """What came through a peer relay: the protocol in the header, and nothing else."""
    try:
        header = geneve.parse_untrusted(data)
    except BadPacket:
        return None
    inner, via = data[geneve.HEADER_LEN :], ViaAddr(src, header.vni)
    if not header.vni:
        return None
    if header.protocol is geneve.Protocol.DISCO:
        disco = len(inner) >= _DISCO_MIN and inner.startswith(_DISCO_MAGIC)
        return Disco(via, inner) if disco else None
    if inner[1:4] == b"\0\0\0" and _HANDSHAKE_SIZES.get(inner[0]) == len(inner):
        return None if header.control else Handshake(via, inner)
    return None


def sealed_via(data: Buffer, start: int) -> bool:
    """A Geneve header of a peer relay with WireGuard behind it; there are 8 bytes at ``start``."""
    (head,) = _geneve(data, start)
    return bool(head >> 32 == geneve.Protocol.WIREGUARD and not head & 0xFF and head & 0xFFFFFF00)
