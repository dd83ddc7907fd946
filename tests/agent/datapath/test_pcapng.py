"""Capture files, read by a reader of the test's own."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.datapath import pcapng
from tailnet.agent.datapath.tap import Direction, Tapped
from tailnet.agent.keys import PeerId


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Type and body of each block."""
    found = []
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert length % 4 == 0
        assert data[length - 4 : length] == struct.pack("<I", length)
        found.append((kind, data[8 : length - 4]))
        data = data[length:]
    return found


def options(data: bytes) -> dict[int, bytes]:
    """By code, up to the end of options."""
    found = {}
    while (head := struct.unpack_from("<HH", data)) != (0, 0):
        code, size = head
        found[code] = data[4 : 4 + size]
        data = data[4 + size + -size % 4 :]
    assert data == bytes(4)
    return found


def test_the_head_says_what_follows() -> None:
    """One section, one interface with plain IP packets and nanoseconds."""
    (section, about), (interface, device) = blocks(pcapng.head("tailnetd 1", "tailnet0"))
    assert (section, interface) == (0x0A0D0D0A, 1)
    assert struct.unpack_from("<IHHq", about) == (0x1A2B3C4D, 1, 0, -1)
    assert options(about[16:]) == {4: b"tailnetd 1"}
    assert struct.unpack_from("<HHI", device) == (101, 0, 0)
    assert options(device[8:]) == {2: b"tailnet0", 9: b"\x09"}


@given(
    st.sampled_from(Direction),
    st.sampled_from(("", "in_denied")),
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=100),
    st.sampled_from(("", "h2", "ü")),
)
def test_a_packet_is_read_back(
    direction: Direction, dropped: str, at: int, data: bytes, peer: str
) -> None:
    """With its time, direction and comment."""
    tapped = Tapped(direction, dropped, PeerId(1), at, data)
    ((kind, body),) = blocks(pcapng.packet(tapped, peer))
    interface, high, low, size, whole = struct.unpack_from("<IIIII", body)
    assert (kind, interface, high << 32 | low) == (6, 0, at)
    assert size == whole == len(data)
    assert body[20 : 20 + size] == data
    found = options(body[20 + size + -size % 4 :])
    assert found[2] == struct.pack("<I", 1 if direction is Direction.IN else 2)
    said = [f"peer {peer}"] * bool(peer) + [f"dropped: {dropped}"] * bool(dropped)
    assert found.get(1, b"").decode() == ", ".join(said)
