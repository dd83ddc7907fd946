"""The header in front of each packet of a TUN device with IFF_VNET_HDR.

=======  ====  =============================================================
offset   size  field (host byte order)
=======  ====  =============================================================
0        1     flags: 1 the transport checksum is only begun, 2 it was checked
1        1     gso_type: 0 none, 1 TCPv4, 4 TCPv6, 5 UDP; 0x80 with ECN
2        2     hdr_len: a hint, not to be trusted
4        2     gso_size: bytes of payload per segment
6        2     csum_start: offset of the transport header
8        2     csum_offset: of the checksum within it
=======  ====  =============================================================

Source: Linux include/uapi/linux/virtio_net.h.
"""

from struct import Struct

LEN = 10  # bytes
NEEDS_CSUM, DATA_VALID = 1, 2
GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP = 0, 1, 4, 5
GSO_ECN = 0x80

HEADER = Struct("=BBHHHH")
PLAIN = bytes(LEN)  # a packet as it is, with its own checksum

TCP_CSUM, UDP_CSUM = 16, 6  # offsets of the checksum fields


def settles(header: bytes | bytearray | memoryview) -> bool:
    """True if the packet's own transport checksum is nothing to look at.

    It is to be finished, was found right before, or is made anew for each segment.
    """
    return bool(header[0] & (NEEDS_CSUM | DATA_VALID) or header[1] & ~GSO_ECN)
