"""The record layer and the early payload."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors import control_noise as v

from tailnet.agent.control import records
from tailnet.agent.control.records import EarlyPayload, RecordStream, early_payload
from tailnet.agent.crypto.aead import Aead
from tailnet.agent.errors import BadPacket, LocalProtocolError
from tailnet.agent.noise.control import TransportKeys

CLIENT = TransportKeys(send=v.CLIENT_TO_SERVER, receive=v.SERVER_TO_CLIENT, hash=bytes(32))
SERVER = TransportKeys(send=v.SERVER_TO_CLIENT, receive=v.CLIENT_TO_SERVER, hash=bytes(32))


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` cut at ``cuts`` (taken modulo its length)."""
    marks = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(marks)]


def test_records_match_the_vector() -> None:
    """Both directions seal and open the vector's bytes, counters included."""
    client, server = RecordStream(CLIENT), RecordStream(SERVER)
    for plain, sealed in v.CLIENT_RECORDS:
        assert client.seal(plain) == sealed
        assert server.open_untrusted(sealed) == plain
    plain, sealed = v.SERVER_RECORD
    assert server.seal(plain) == sealed
    assert client.open_untrusted(sealed) == plain


@given(st.lists(st.binary(max_size=9000), max_size=5), st.lists(st.integers(0), max_size=8))
def test_any_chunking_gives_the_same_stream(writes: list[bytes], cuts: list[int]) -> None:
    """Opening inverts sealing however the network cuts the bytes."""
    client, server = RecordStream(CLIENT), RecordStream(SERVER)
    sealed = b"".join(client.seal(w) for w in writes)
    opened = b"".join(server.open_untrusted(c) for c in chunked(sealed, cuts))
    assert opened == b"".join(writes)


def test_byte_by_byte() -> None:
    """One byte at a time is no different."""
    client, server = RecordStream(CLIENT), RecordStream(SERVER)
    sealed = client.seal(b"x" * 5000)
    assert b"".join(server.open_untrusted(bytes([b])) for b in sealed) == b"x" * 5000


def test_frames_stay_within_4096_bytes() -> None:
    """A large write becomes full records and a rest."""
    sealed = RecordStream(CLIENT).seal(bytes(2 * records.MAX_PLAINTEXT + 1))
    assert len(sealed) == 2 * records.MAX_FRAME + 3 + 16 + 1


def test_empty_record_is_legal() -> None:
    """A ciphertext that is only a tag opens to nothing."""
    aead = Aead(v.CLIENT_TO_SERVER)
    sealed = aead.seal(bytes(12), b"", None)
    assert RecordStream(SERVER).open_untrusted(b"\x04\x00\x10" + sealed) == b""


@pytest.mark.parametrize(
    "frame",
    [b"\x03\x00\x02no", b"\x05", b"\x04\x00\x0f" + bytes(15), b"\x04\x0f\xfe", b"\x04\xff\xff"],
)
def test_bad_frames_are_fatal(frame: bytes) -> None:
    """Wrong type, too short, too long; and nothing opens after that."""
    stream = RecordStream(SERVER)
    with pytest.raises(BadPacket):
        stream.open_untrusted(frame)
    with pytest.raises(BadPacket):
        stream.open_untrusted(v.CLIENT_RECORDS[0][1])


def test_replayed_record_is_refused() -> None:
    """The counter has moved on."""
    stream = RecordStream(SERVER)
    stream.open_untrusted(v.CLIENT_RECORDS[0][1])
    with pytest.raises(BadPacket):
        stream.open_untrusted(v.CLIENT_RECORDS[0][1])


@given(st.binary(min_size=1, max_size=200))
def test_noise_opens_to_nothing(data: bytes) -> None:
    """Noise is refused or waits for more; ``open_untrusted`` lets only ``BadPacket`` out."""
    with contextlib.suppress(BadPacket):
        assert RecordStream(SERVER).open_untrusted(data) == b""


def test_counter_is_never_exhausted_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last counter value is not used."""
    monkeypatch.setattr(records, "MAX_COUNTER", 1)
    stream = RecordStream(CLIENT)
    stream.seal(b"a")
    with pytest.raises(LocalProtocolError):
        stream.seal(b"b")


@given(
    st.one_of(st.none(), st.binary(max_size=40)),
    st.binary(max_size=40),
    st.lists(st.integers(0), max_size=8),
)
def test_early_payload_is_taken_off(json: bytes | None, rest: bytes, cuts: list[int]) -> None:
    """With or without it, in any chunking, HTTP/2 gets exactly its own bytes."""
    http2 = b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + rest
    early = EarlyPayload()
    wire = (b"" if json is None else early_payload(json)) + http2
    assert b"".join(early.strip_untrusted(c) for c in chunked(wire, cuts)) == http2
    assert early.payload == json


def test_early_payload_of_a_gigabyte_is_refused() -> None:
    """The length is bounded before anything is kept."""
    with pytest.raises(BadPacket):
        EarlyPayload().strip_untrusted(records.EARLY_MAGIC + b"\x40\x00\x00\x00")


@given(st.binary(max_size=64))
def test_early_noise_passes_or_waits(data: bytes) -> None:
    """``strip_untrusted`` lets only ``BadPacket`` out."""
    with contextlib.suppress(BadPacket):
        assert EarlyPayload().strip_untrusted(data) in {data, b""} or data.startswith(
            records.EARLY_MAGIC
        )
