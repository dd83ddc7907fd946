"""Framing of the map stream: u32 **little-endian** length, then JSON or one zstd frame.

Source: tailscale control/controlclient/direct.go, decodeMsg; sendMapRequest.
"""

import io
from collections.abc import Iterator

from zstandard import ZstdDecompressor, ZstdError

from tailnet.agent.errors import BadPacket

HEADER_LEN = 4
MAX_MESSAGE = 64 << 20  # bytes, compressed or not; enough for a very large tailnet
PIECE = 64 << 10  # bytes; a delta needs no buffer of MAX_MESSAGE
MAX_WINDOW = 64 << 20  # bytes of memory a zstd frame may ask for


def split_untrusted(buffer: bytearray) -> Iterator[bytes]:
    """Take complete messages off the front of ``buffer``, as they are asked for.

    Raises:
        BadPacket: a length beyond :data:`MAX_MESSAGE`.
    """
    while len(buffer) >= HEADER_LEN:
        length = int.from_bytes(buffer[:HEADER_LEN], "little")
        if length > MAX_MESSAGE:
            msg = "map message too long"
            raise BadPacket(msg)
        if len(buffer) < HEADER_LEN + length:
            return
        message = bytes(memoryview(buffer)[HEADER_LEN : HEADER_LEN + length])
        del buffer[: HEADER_LEN + length]
        yield message


def decompress_untrusted(data: bytes) -> bytes:
    """One zstd frame, which need not say how large its content is.

    Raises:
        BadPacket: not zstd, or more than :data:`MAX_MESSAGE` bytes.
    """
    try:
        decompressor = ZstdDecompressor(max_window_size=MAX_WINDOW)
        out = decompressor.stream_reader(io.BytesIO(data)).read(PIECE)
        if len(out) == PIECE:  # once more, which costs less than a copy of 10 MB
            out = decompressor.stream_reader(io.BytesIO(data)).read(MAX_MESSAGE + 1)
    except (ZstdError, MemoryError) as error:
        msg = f"bad zstd: {error}"
        raise BadPacket(msg) from None
    if len(out) > MAX_MESSAGE:
        msg = "map message too long"
        raise BadPacket(msg)
    return out
