"""The arithmetic checksum against the obvious one."""

from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.packets import naive_checksum, naive_sum

from tailnet.agent.datapath.reference.checksum import complement, pseudo_sum, word_sum


@given(st.binary(max_size=3000))
@example(b"")
@example(b"\xff\xff")
@example(b"\xff" * 2048)
@example(b"\x01")
@example(bytes(1280))
def test_word_sum_equals_the_naive_sum_modulo_ffff(data: bytes) -> None:
    """Zero and 0xFFFF are one number."""
    assert word_sum(data) == naive_sum(data) % 0xFFFF


@given(st.binary(min_size=1, max_size=2000).filter(any))
def test_complement_is_the_checksum_of_anything_but_zeros(data: bytes) -> None:
    """The value in the packet is the very one the naive way writes."""
    assert complement(word_sum(data)) == naive_checksum(data)


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4), st.integers(0, 65535))
def test_pseudo_sum_equals_the_sum_of_the_pseudo_header(a: bytes, b: bytes, length: int) -> None:
    """Addresses, protocol and length."""
    header = a + b + b"\0\x06" + length.to_bytes(2, "big")
    assert pseudo_sum(a, b, 6, length) == naive_sum(header) % 0xFFFF
