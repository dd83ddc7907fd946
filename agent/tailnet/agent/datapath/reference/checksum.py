"""The Internet checksum (RFC 1071) by arithmetic on big integers.

A ones-complement sum of 16-bit words is the big-endian number they form, modulo 0xFFFF, because
2**16 ≡ 1.  ``int.from_bytes`` and ``%`` are loops in C; a Python loop over words is fifty times
slower.  Only zero has two forms there: sums of real packets are never zero, so a sum that is
0 modulo 0xFFFF stands for 0xFFFF, and its complement for 0.
"""

from tailnet.agent.filter.parse import Buffer

_HALVE = 512  # bytes from which one fold pays for itself before the division


def word_sum(data: Buffer) -> int:
    """Sum of the 16-bit big-endian words of ``data``, modulo 0xFFFF; an odd end is padded."""
    number = int.from_bytes(data, "big")
    size = len(data)
    if size & 1:
        number <<= 8
    if size >= _HALVE:
        # Adding the halves is linear and cheap, dividing is linear and dear.
        bits = (size >> 2) << 4
        number = (number >> bits) + (number & ((1 << bits) - 1))
    return number % 0xFFFF


def complement(total: int) -> int:
    """The checksum field for a sum of all other words: 0 to 0xFFFE."""
    return -total % 0xFFFF


def pseudo_sum(src: Buffer, dst: Buffer, proto: int, length: int) -> int:
    """Sum of a pseudo header; addresses are packed, ``length`` counts from the transport header.

    Source: RFC 9293 §3.1; RFC 8200 §8.1.
    """
    return (word_sum(src) + word_sum(dst) + proto + length) % 0xFFFF
