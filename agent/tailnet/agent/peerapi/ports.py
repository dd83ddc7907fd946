"""Where the PeerAPI listens: a port that follows from the address, so that it seldom changes.

Source: tailscale ipn/ipnlocal/peerapi.go, listen.
"""

from zlib import crc32

from tailnet.agent.addr import IPAddress

TRIES = 5  # ports before any other is as good


def port_of(ip: IPAddress, attempt: int = 0) -> int:
    """From the last three bytes; IPv4 and IPv6 of one node usually share them, and so the port."""
    first, *rest = ip.packed[-3:]
    return 0x8000 | crc32(bytes([(first + attempt) & 0xFF, *rest])) & 0xFFFF
