"""Echo requests and replies.

::

    u8 type   u8 code = 0   u16 checksum   u16 identifier   u16 sequence number   data

Source: RFC 792, RFC 4443 section 4.
"""

from tailnet.agent.errors import BadPacket

HEADER_LEN = 8
REQUEST = {4: 8, 6: 128}  # types by IP version
REPLY = {4: 0, 6: 129}
MIN_IPV4 = 20  # bytes of header, which raw sockets show


def encode_request(version: int, identifier: bytes, data: bytes) -> bytes:
    """A request; over IPv6 the kernel fills the checksum in.

    Args:
        version: of IP.
        identifier: 2 bytes.
        data: comes back.
    """
    head = bytes((REQUEST[version], 0, 0, 0)) + identifier + b"\0\1"
    if version == 6:
        return head + data
    return head[:2] + _checksum(head + data) + head[4:] + data


def reply_data_untrusted(version: int, packet: bytes) -> bytes:
    """The data of an echo reply, with the header of IPv4 before it or without.

    Raises:
        BadPacket: it is something else.
    """
    if version == 4 and packet and packet[0] >> 4 == 4:
        packet = packet[max(MIN_IPV4, (packet[0] & 15) * 4) :]
    if len(packet) < HEADER_LEN or packet[0] != REPLY[version] or packet[1]:
        msg = "not an echo reply"
        raise BadPacket(msg)
    return packet[HEADER_LEN:]


def _checksum(message: bytes) -> bytes:
    """RFC 1071, of an even number of bytes."""
    total = sum(int.from_bytes(message[i : i + 2], "big") for i in range(0, len(message), 2))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")
