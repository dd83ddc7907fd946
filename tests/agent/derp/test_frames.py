"""Claims about tailnet.agent.derp.frames and .upgrade."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vectors import derp as vectors

from tailnet.agent.crypto.box import Box
from tailnet.agent.derp import frames
from tailnet.agent.derp.frames import Frame, FrameReader, Kind
from tailnet.agent.derp.upgrade import MAX_HEAD, UpgradeReader, encode_request
from tailnet.agent.errors import BadPacket
from tailnet.agent.keys import NodePrivate, NodePublic

A, B = NodePublic(b"a" * 32), NodePublic(b"b" * 32)
CLIENT = NodePrivate(vectors.CLIENT_PRIVATE)
SERVER = NodePrivate(vectors.SERVER_PRIVATE)
SERVER_PUBLIC = NodePublic(vectors.SERVER_PUBLIC)

control = st.tuples(
    st.integers(0, 255).filter(lambda kind: kind != Kind.RECV_PACKET), st.binary(max_size=60)
)
packet = st.tuples(st.sampled_from([A, B]), st.binary(max_size=60))


def flat(received: list[Frame]) -> list[tuple[int, bytes, bytes]]:
    """One entry per frame, so that runs may be cut anywhere."""
    return [(kind, key, body) for kind, key, bodies in received for body in bodies]


def test_client_info_matches_the_known_frame() -> None:
    """Layout, box and JSON names, all in one."""
    box = Box(CLIENT.raw, vectors.SERVER_PUBLIC)
    public = NodePublic(vectors.CLIENT_PUBLIC)
    made = frames.encode_client_info(public, box, vectors.NONCE, frames.ClientInfo())
    assert made == vectors.CLIENT_INFO_FRAME


def test_known_client_info_opens() -> None:
    """The relay learns the key and what the client can do."""
    payload = vectors.CLIENT_INFO_FRAME[frames.HEADER_LEN :]
    key, _, info = frames.parse_client_info_untrusted(payload, SERVER)
    assert key.raw == vectors.CLIENT_PUBLIC
    assert info == frames.ClientInfo(version=2, can_ack_pings=True)


@given(st.integers(0, len(vectors.CLIENT_INFO_FRAME) - 6), st.integers(1, 255))
def test_a_flipped_byte_of_client_info_is_refused(at: int, flip: int) -> None:
    """Nobody registers with a key that is not theirs."""
    payload = bytearray(vectors.CLIENT_INFO_FRAME[frames.HEADER_LEN :])
    payload[at] ^= flip
    if at == 31 and flip == 0x80:
        return  # X25519 ignores the top bit of a public key
    with pytest.raises(BadPacket):
        frames.parse_client_info_untrusted(bytes(payload), SERVER)


@given(st.lists(st.one_of(control, packet), max_size=20), st.data())
def test_any_chunking_gives_the_same_frames(
    sent: list[tuple[int, bytes] | tuple[NodePublic, bytes]], data: st.DataObject
) -> None:
    """Whole, byte by byte or cut anywhere: the same frames in the same order."""
    stream = b""
    expected: list[tuple[int, bytes, bytes]] = []
    for kind, body in sent:
        if isinstance(kind, NodePublic):
            stream += b"".join(frames.encode_packets(Kind.RECV_PACKET, kind, [body]))
            expected.append((Kind.RECV_PACKET, kind.raw, body))
        else:
            stream += bytes((kind,)) + len(body).to_bytes(4, "big") + body
            expected.append((kind, b"", body))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader = FrameReader(Kind.RECV_PACKET)
    got: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += reader.feed_untrusted(stream[start:end])
    assert flat(got) == expected
    single = FrameReader(Kind.RECV_PACKET)
    assert flat([f for b in stream for f in single.feed_untrusted(bytes((b,)))]) == expected


def test_packets_of_one_key_come_as_one_run() -> None:
    """Bulk traffic costs one object per run, not per packet."""
    parts = frames.encode_packets(Kind.SEND_PACKET, A, [b"1", b"22", b"22", b""])
    parts += frames.encode_packets(Kind.SEND_PACKET, B, [b"3"])
    received = FrameReader(Kind.SEND_PACKET).feed_untrusted(b"".join(parts))
    assert received == [(4, A.raw, [b"1", b"22", b"22", b""]), (4, B.raw, [b"3"])]


def test_packets_are_grouped_by_key_in_order() -> None:
    """Two senders interleaved: one list each."""
    received: list[Frame] = [
        (5, A.raw, [b"1", b"2"]),
        (0x06, b"", [b""]),
        (5, B.raw, [b"3"]),
        (5, A.raw, [b"4"]),
    ]
    expected = [(A, [b"1", b"2", b"4"]), (B, [b"3"])]
    assert frames.packets_of(received, Kind.RECV_PACKET) == expected


def test_a_packet_frame_without_a_key_is_left_out() -> None:
    """Too short for its kind is not fatal for a client."""
    stream = frames.encode_frame(Kind.RECV_PACKET, b"x" * 31) + frames.encode_frame(Kind.KEEP_ALIVE)
    assert FrameReader(Kind.RECV_PACKET).feed_untrusted(stream) == [(6, b"", [b""])]


@pytest.mark.parametrize("length", [frames.MAX_FRAME + 1, 0xFFFFFFFF])
def test_a_frame_beyond_the_limit_ends_the_stream(length: int) -> None:
    """Before any of its payload is awaited."""
    with pytest.raises(BadPacket):
        FrameReader(Kind.RECV_PACKET).feed_untrusted(b"\x05" + length.to_bytes(4, "big"))


def test_a_frame_at_the_limit_passes() -> None:
    """1 MiB is still fine."""
    stream = frames.encode_frame(Kind.HEALTH, bytes(frames.MAX_FRAME))
    reader = FrameReader(Kind.RECV_PACKET)
    assert reader.feed_untrusted(stream[:-1]) == []
    assert flat(reader.feed_untrusted(stream[-1:])) == [(0x14, b"", bytes(frames.MAX_FRAME))]


@given(st.lists(st.binary(max_size=80), max_size=5))
def test_garbage_raises_nothing_but_bad_packet(chunks: list[bytes]) -> None:
    """Whatever comes, and in whatever pieces."""
    reader = FrameReader(Kind.RECV_PACKET)
    try:
        for chunk in chunks:
            reader.feed_untrusted(chunk)
    except BadPacket:
        pass


@given(st.binary(max_size=200))
def test_payload_parsers_raise_nothing_but_bad_packet(payload: bytes) -> None:
    """Each parser of this room, fed noise."""
    box = Box(CLIENT.raw, SERVER_PUBLIC.raw)
    for parse in (
        lambda: frames.parse_server_key_untrusted(payload),
        lambda: frames.parse_client_info_untrusted(payload, SERVER),
        lambda: frames.parse_server_info_untrusted(payload, box),
        lambda: frames.parse_peer_gone_untrusted(payload),
        lambda: frames.parse_restarting_untrusted(payload),
        lambda: UpgradeReader().feed_untrusted(payload),
        lambda: UpgradeReader().feed_untrusted(b"HTTP/1.1 " + payload + b"\r\n\r\n"),
    ):
        try:
            parse()
        except BadPacket:
            continue


def test_server_info_with_a_limit_round_trips() -> None:
    """The rate's names are the field's."""
    info = frames.ServerInfo(
        version=2, token_bucket_bytes_per_second=1000, token_bucket_bytes_burst=70_000
    )
    box = Box(SERVER.raw, vectors.CLIENT_PUBLIC)
    frame = frames.encode_server_info(box, vectors.NONCE, info)
    ours = Box(CLIENT.raw, vectors.SERVER_PUBLIC)
    payload = frame[frames.HEADER_LEN :]
    assert frames.parse_server_info_untrusted(payload, ours) == info
    plain = ours.open_untrusted(vectors.NONCE, payload[24:])
    assert plain == (
        b'{"version":2,"TokenBucketBytesPerSecond":1000,"TokenBucketBytesBurst":70000}'
    )


def test_greeting_with_future_bytes_is_accepted() -> None:
    """Bytes after the key are for later versions."""
    payload = frames.encode_server_key(SERVER_PUBLIC)[frames.HEADER_LEN :] + b"future"
    assert frames.parse_server_key_untrusted(payload) == SERVER_PUBLIC


@pytest.mark.parametrize(("tail", "reason"), [(b"", 0), (b"\x01", 1), (b"\x00more", 0)])
def test_peer_gone_without_reason_means_disconnected(tail: bytes, reason: int) -> None:
    """Old relays leave it out."""
    assert frames.parse_peer_gone_untrusted(A.raw + tail) == (A, reason)


def test_restarting_counts_in_milliseconds() -> None:
    """On the wire; seconds for us."""
    payload = frames.encode_restarting(1.5, 30)[frames.HEADER_LEN :]
    assert payload == (1500).to_bytes(4, "big") + (30_000).to_bytes(4, "big")
    assert frames.parse_restarting_untrusted(payload) == (1.5, 30.0)


def test_upgrade_request_names_the_ideal_node_only_if_told() -> None:
    """A relay learns when it is somebody's second choice."""
    assert encode_request("relay.example") == (
        b"GET /derp HTTP/1.1\r\nHost: relay.example\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
    )
    assert b"\r\nIdeal-Node: 1a\r\n\r\n" in encode_request("relay.example", "1a")


@pytest.mark.parametrize("host", ["", "a b", "a\r\nX: y", "ä.example"])
def test_a_host_that_breaks_headers_is_refused(host: str) -> None:
    """Names come from the map, and the map from the network."""
    with pytest.raises(BadPacket):
        encode_request(host)


@given(st.integers(1, 60), st.binary(max_size=40))
def test_bytes_after_the_response_head_are_kept(cut: int, rest: bytes) -> None:
    """The greeting may be in the same segment, wherever it was cut."""
    stream = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n\r\n" + rest
    reader = UpgradeReader()
    first = reader.feed_untrusted(stream[:cut])
    if first is None:
        first = reader.feed_untrusted(stream[cut:])
        assert first == rest
    else:
        assert first == rest[: len(first)]


@pytest.mark.parametrize("key", ["ab" * 32, "nodekey:" + "ab" * 32, "", "?"])
def test_the_key_in_the_response_head_is_not_read(key: str) -> None:
    """Servers spell it in different ways; the greeting has it."""
    head = f"HTTP/1.1 101 Switching Protocols\r\nDerp-Public-Key: {key}\r\n\r\n"
    assert UpgradeReader().feed_untrusted(head.encode()) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 426 Upgrade Required\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"\r\n\r\n",
        b"x" * (MAX_HEAD + 1),
    ],
)
def test_anything_but_a_101_is_refused(head: bytes) -> None:
    """Also a head that does not end."""
    with pytest.raises(BadPacket):
        UpgradeReader().feed_untrusted(head)
