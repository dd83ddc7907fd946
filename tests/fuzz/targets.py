"""What is fuzzed: each target is a claim about any bytes, and the code that checks it.

The claim is the first line of its docstring.  A target raises where the claim is wrong.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from tests.support.handshakes import MAKERS
from tests.support.pair import Pair
from tests.support.untrusted import takes_bytes
from tests.vectors import control_noise, derp, wireguard_handshake

from tailnet.agent.addr import AddrPort
from tailnet.agent.backend import store
from tailnet.agent.backend.config import parse_config
from tailnet.agent.backend.peers import PeerIds
from tailnet.agent.backend.plan import make_plan
from tailnet.agent.backend.plancache import PlanCache
from tailnet.agent.backend.prefs import Prefs
from tailnet.agent.control.channel import Channel
from tailnet.agent.control.fold import Folder
from tailnet.agent.control.records import RecordStream, early_payload
from tailnet.agent.control.session import MapSession
from tailnet.agent.datapath.native import why_not
from tailnet.agent.datapath.tsmp import encode_disco_key, encode_ping
from tailnet.agent.dates import Calendar
from tailnet.agent.derp.backlog import Backlog
from tailnet.agent.derp.frames import FrameReader, Kind, encode_server_key
from tailnet.agent.derp.proxy import Tunnel
from tailnet.agent.derp.session import Session as DerpSession
from tailnet.agent.derp.upgrade import encode_request
from tailnet.agent.disco import messages as disco
from tailnet.agent.errors import BadPacket, RemoteProtocolError, UserError
from tailnet.agent.http2.connection import Http2
from tailnet.agent.httpd.conversation import BadRequest, Conversation, Request, Step
from tailnet.agent.httpd.response import read_body_untrusted, split_head_untrusted
from tailnet.agent.keys import DiscoPublic, NodePrivate, NodePublic
from tailnet.agent.netstack.http_proxy import HttpProxy
from tailnet.agent.netstack.socks5 import Socks5
from tailnet.agent.noise.control import TransportKeys
from tailnet.agent.noise.wireguard.interface import Handshakes
from tailnet.agent.stun import messages as stun
from tailnet.agent.tailcfg.mapping import decode_map_untrusted

Run = Callable[[bytes], None]

CLIENT = TransportKeys(
    send=control_noise.CLIENT_TO_SERVER, receive=control_noise.SERVER_TO_CLIENT, hash=bytes(32)
)
SERVER = TransportKeys(send=CLIENT.receive, receive=CLIENT.send, hash=bytes(32))
SRC = AddrPort.parse("192.0.2.7:7")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Target(NamedTuple):
    """A claim, its check, and messages that are right to begin with."""

    claim: str
    run: Run
    seeds: Sequence[bytes]


TARGETS: dict[str, Target] = {}


def target(*seeds: bytes) -> Callable[[Run], Run]:
    """Register a check under its name."""

    def register(run: Run) -> Run:
        TARGETS[run.__name__] = Target((run.__doc__ or "").partition("\n")[0], run, seeds)
        return run

    return register


def pieces(data: bytes) -> Iterator[bytes]:
    """``data`` cut in a way that follows from it."""
    state = zlib.crc32(data) | 1
    while data:
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        size = 1 + (state >> 8) % (4 if state & 1 else 200)
        yield data[:size]
        data = data[size:]


def outcome(feed: Callable[[bytes], Sequence[object]], parts: Sequence[bytes]) -> list[object]:
    """What came of all parts, and ``bad`` where it ended early."""
    seen: list[object] = []
    try:
        for part in parts:
            seen += feed(part)
    except BadPacket:
        seen.append("bad")
    return seen


# --- every function that takes only bytes ------------------------------------------


def _only_bad_packet(function: Callable[[bytes], object]) -> Run:
    def run(data: bytes) -> None:
        with suppress(BadPacket):
            function(data)

    return run


INITIATION = wireguard_handshake.INITIATION
STUN_ANSWER = stun.encode_response(b"t" * 12, SRC)
DISCO_SEEDS = tuple(
    disco.encode(message)
    for message in (
        disco.Ping(b"t" * 12, NodePublic(b"k" * 32)),
        disco.Pong(b"t" * 12, SRC),
        disco.CallMeMaybe((SRC, AddrPort.parse("[2001:db8::1]:9"))),
    )
)
MAP = msgspec.json.encode(
    {
        "Seq": 1,
        "MapSessionHandle": "h",
        "Node": {
            "ID": 1,
            "StableID": "n1",
            "Key": "nodekey:" + "01" * 32,
            "Addresses": ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"],
            "AllowedIPs": ["100.64.0.1/32"],
            "KeyExpiry": "2026-06-01T00:00:00Z",
            "CapMap": {"x": None},
        },
        "Peers": [
            {
                "ID": 2,
                "Name": "b.example.",
                "Key": "nodekey:" + "02" * 32,
                "DiscoKey": "discokey:" + "03" * 32,
                "Addresses": ["100.64.0.2/32"],
                "AllowedIPs": ["100.64.0.2/32", "10.0.0.0/8", "0.0.0.0/0"],
                "Endpoints": ["192.0.2.1:1", "[2001:db8::1]:2"],
                "HomeDERP": 1,
                "Hostinfo": {"OS": "linux"},
                "Online": True,
            }
        ],
        "DERPMap": {"Regions": {"1": {"RegionID": 1, "Nodes": [{"Name": "1a", "RegionID": 1}]}}},
        "PacketFilter": [
            {
                "SrcIPs": ["100.64.0.0/10", "*", "10.0.0.1-10.0.0.9"],
                "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}],
                "IPProto": [6],
            }
        ],
        "PacketFilters": {"a": None},
        "UserProfiles": [{"ID": 1, "LoginName": "a@b"}],
        "DNSConfig": {"Resolvers": [{"Addr": "1.1.1.1"}], "Routes": {"x.": []}},
        "Health": ["ill"],
        "ControlTime": "2026-01-01T00:00:00Z",
    }
)
DELTA = msgspec.json.encode(
    {
        "PeersChanged": [{"ID": 3, "Key": "nodekey:" + "04" * 32, "Addresses": ["100.64.0.3/32"]}],
        "PeersRemoved": [2],
        "PeersChangedPatch": [{"NodeID": 3, "DERPRegion": 2, "Endpoints": ["192.0.2.9:9"]}],
        "PeerSeenChange": {"3": True},
        "OnlineChange": {"3": False},
    }
)
TSMP_PING = encode_ping(SRC.ip, SRC.ip, b"data1234")
TSMP_KEY = encode_disco_key(SRC.ip, SRC.ip, DiscoPublic(b"k" * 32))

SEEDS_BY_ROOM: dict[str, Sequence[bytes]] = {
    "wireguard": (INITIATION, wireguard_handshake.RESPONSE_HEAD),
    "stun": (stun.encode_request(b"t" * 12), STUN_ANSWER),
    "disco": DISCO_SEEDS,
    "derp": (derp.CLIENT_INFO_FRAME,),
    "tailcfg": (MAP, DELTA),
    "datapath": (TSMP_PING, TSMP_KEY),
    "netstack": (
        b"\x05\x01\x00\x03\x04name\x00\x50",
        b"\x00\x00\x00\x01\x7f\x00\x00\x01\x00\x50data",
        b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\nearly",
        b"GET http://h/p HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    "httpd": (b"/localapi/v0/status?peers=false&a=%20",),
    "control": (
        b"POST /update HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
        b'{"a.example":["192.0.2.1","2001:db8::1"]}',
    ),
    "dns": (b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x01\x00\x01",),
    "filter": (bytes.fromhex("4500001c00000000401100000a0000010a00000200500050000800"),),
}

for dotted, function in takes_bytes():
    TARGETS[dotted.removeprefix("tailnet.agent.")] = Target(
        "Nothing but BadPacket comes out.",
        _only_bad_packet(function),
        SEEDS_BY_ROOM.get(dotted.split(".")[2], ()),
    )


# --- control ------------------------------------------------------------------------


def _sealed(*plain: bytes) -> bytes:
    sender = RecordStream(SERVER)
    return b"".join(sender.seal(piece) for piece in plain)


@target(_sealed(b"hello", b"", b"x" * 5000))
def control_records(data: bytes) -> None:
    """Records come to the same however they are cut; what was sealed comes out."""
    whole, cut = RecordStream(CLIENT), RecordStream(CLIENT)
    one = outcome(lambda part: list(whole.open_untrusted(part)), [data])
    two = outcome(lambda part: list(cut.open_untrusted(part)), list(pieces(data)))
    if "bad" not in one:
        assert one == two
    assert RecordStream(CLIENT).open_untrusted(_sealed(data)) == data


def _http2_answer() -> bytes:
    client, server = Http2(client=True), Http2(client=False)
    stream = client.open("POST", "/machine/map", "h", b"{}")
    server.receive_untrusted(client.poll_transmit() or b"")
    server.respond(stream, 200, {"content-type": "x"}, end=False)
    server.write(stream, b"body", end=True)
    server.ping()
    return server.poll_transmit() or b""


@target(_http2_answer())
def http2_client(data: bytes) -> None:
    """A server that breaks HTTP/2 is a BadPacket, and every event can be taken."""
    client = Http2(client=True)
    client.open("POST", "/machine/map", "h", b"{}")
    with suppress(BadPacket):
        for part in pieces(data):
            client.receive_untrusted(part)
            client.poll_transmit()
            while client.poll_event() is not None:
                pass


@target(early_payload(b"{}") + _http2_answer())
def http2_inside_records(data: bytes) -> None:
    """The same inside the records, with an early payload before it."""
    channel = Channel(CLIENT, client=True)
    channel.http.open("POST", "/machine/map", "h", b"{}")
    with suppress(BadPacket):
        for part in pieces(_sealed(data)):
            channel.receive_untrusted(part)
            channel.poll_transmit()
            while channel.http.poll_event() is not None:
                pass


@target(
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
)
def http1_answer(data: bytes) -> None:
    """A whole answer reads the same without the bytes after it."""
    with suppress(BadPacket):
        if (split := split_head_untrusted(data)) is not None:
            head, rest = split
            for eof in (False, True):
                read_body_untrusted(head, rest, eof=eof)


@target(MAP, MAP + b"\n" + DELTA, MAP + b"\n" + DELTA + b"\n" + MAP)
def map_to_plan(data: bytes) -> None:
    """Whatever maps decode, they fold, and the plan made step by step is that made at once."""
    folder, ids, cache = Folder(), PeerIds(), PlanCache()
    for line in data.split(b"\n"):
        try:
            message, _ = decode_map_untrusted(line)
            change = folder.fold(message, NOW)
        except BadPacket:
            return
        netmap = folder.netmap(NOW)
        only = None if change.full else change.changed | change.removed
        stepwise = make_plan(Prefs(route_all=True), netmap, ids, cache, only)
        afresh = make_plan(Prefs(route_all=True), netmap, ids)
        assert stepwise.peers == afresh.peers
        assert stepwise.router.routes == afresh.router.routes


def _framed(*messages: bytes) -> bytes:
    return b"".join(len(m).to_bytes(4, "little") + m for m in messages)


@target(_framed(MAP, DELTA), _framed(MAP, b'{"KeepAlive":true}'))
def map_stream(data: bytes) -> None:
    """A map stream is read or refused in any pieces, and time can pass after it."""
    session = MapSession(0.0, Calendar(lambda: 0.0, lambda: NOW), compressed=False)
    with suppress(BadPacket):
        for part in pieces(data):
            session.receive_untrusted(part, 1.0)


# --- files --------------------------------------------------------------------------


@target(
    b'{"version":"alpha0", /* c */ "hostname":"a", "advertiseRoutes":["10.0.0.0/8"],}',
    b'// x\n{"version":"alpha0","AuthKey":"k","enabled":true,"acceptRoutes":"yes"}\n',
)
def config_file(data: bytes) -> None:
    """A configuration file is read, or a person is told why not."""
    with suppress(UserError):
        parse_config(data)


@target(store.encode(store.fresh(lambda n: b"r" * n)))
def state_file(data: bytes) -> None:
    """What is read from a state file is written and read again without change."""
    try:
        stored = store.decode_untrusted(data, lambda n: b"r" * n)
    except BadPacket:
        return
    written = store.encode(stored)
    again = store.encode(store.decode_untrusted(written, lambda n: b"s" * n))
    assert msgspec.json.decode(again) == msgspec.json.decode(written)


# --- relays -------------------------------------------------------------------------

SERVER_KEY = NodePublic(derp.SERVER_PUBLIC)


@target(derp.CLIENT_INFO_FRAME, encode_server_key(SERVER_KEY) + derp.CLIENT_INFO_FRAME)
def derp_frames(data: bytes) -> None:
    """Frames are the same however they were cut."""

    def read(parts: Sequence[bytes]) -> list[object]:
        reader = FrameReader(Kind.RECV_PACKET)
        seen = outcome(reader.feed_untrusted, parts)
        return [(kind, key, body) for kind, key, bodies in _frames(seen) for body in bodies]

    whole, cut = read([data]), read(list(pieces(data)))
    assert whole == cut or len(whole) < len(cut)  # an error hides what came in the same piece


def _frames(seen: list[object]) -> list[tuple[int, bytes, list[bytes]]]:
    return [frame for frame in seen if isinstance(frame, tuple)]


UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"


@target(UPGRADED + encode_server_key(SERVER_KEY), UPGRADED + b"\x0c\0\0\0\x08pingpong")
def derp_session(data: bytes) -> None:
    """A relay that misbehaves ends the session, nothing else."""
    session = DerpSession(
        NodePrivate(derp.CLIENT_PRIVATE),
        Backlog(Counter()),
        request=encode_request("relay.example"),
        started=0.0,
        random_bytes=lambda n: b"n" * n,
    )
    with suppress(RemoteProtocolError):
        for part in pieces(data):
            session.handle_data(part, 1.0)
            session.poll_transmit(1.0)
            while session.poll_event() is not None:
                pass
            session.next_timeout()


@target(b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n")
def proxy_answer(data: bytes) -> None:
    """A proxy lets us through, or we know why not."""
    tunnel = Tunnel("http://proxy:1")
    with suppress(BadPacket, RemoteProtocolError, UserError):
        for part in data:
            if tunnel.receive_untrusted(bytes((part,))):
                break


# --- peers --------------------------------------------------------------------------


@target(*DISCO_SEEDS)
def disco_again(data: bytes) -> None:
    """What was understood, keyless pings apart, is encoded to what means the same."""
    with suppress(BadPacket):
        message = disco.parse_untrusted(data)
        keyless = isinstance(message, disco.Ping) and message.node_key is None  # a key of zeros
        if message is not None and not keyless:
            assert disco.parse_untrusted(disco.encode(message)) == message


@target(INITIATION, wireguard_handshake.RESPONSE_HEAD + bytes(64), bytes(64))
def wireguard_engine(data: bytes) -> None:
    """A handshake message of anybody is refused or answered, and every output can be taken."""
    pair = Pair()
    engine = pair.a.engine
    with suppress(BadPacket):
        engine.handle_handshake_untrusted(data, SRC, 1.0)
    while engine.poll_event() is not None:
        pass


HANDSHAKE_KEY = NodePrivate(wireguard_handshake.RESPONDER_PRIVATE)
HANDSHAKES: list[Handshakes] = [
    make(HANDSHAKE_KEY) for name, make in MAKERS.items() if name != "native" or not why_not()
]


@target(INITIATION[8:], wireguard_handshake.RESPONSE_HEAD[12:] + bytes(16), bytes(108), bytes(48))
def wireguard_handshakes(data: bytes) -> None:
    """Every implementation of the handshake understands or refuses a message as the others do."""
    said: list[object] = []
    for each in HANDSHAKES:
        begun = each.begin(SERVER_KEY, b"e" * 32, bytes(12))
        try:
            asked = each.read_untrusted(data, b"f" * 32)
            said.append((asked.remote, asked.timestamp, asked.answer()))
        except BadPacket as error:
            said.append(str(error))
        try:
            said.append(begun.finish_untrusted(data))
        except BadPacket as error:
            said.append(str(error))
    assert said == said[:2] * len(HANDSHAKES)


# --- programs of this machine ---------------------------------------------------------


@target(
    b"\x05\x01\x00\x05\x01\x00\x03\x04name\x00\x50early", b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6)
)
def socks5(data: bytes) -> None:
    """A SOCKS5 client gets the same in any pieces."""

    def play(parts: Sequence[bytes]) -> tuple[object, ...]:
        machine, said, asked = Socks5(), b"", None
        for part in parts:
            if machine.closed:
                break
            machine.handle_data(part)
            while (out := machine.poll_transmit()) is not None:
                said += out
            asked = asked or machine.poll_event()
        return said, asked, machine.closed

    assert play([data]) == play(list(pieces(data)))


@target(*SEEDS_BY_ROOM["netstack"][2:])
def http_proxy(data: bytes) -> None:
    """An HTTP proxy's client gets the same in any pieces."""

    def play(parts: Sequence[bytes]) -> tuple[object, ...]:
        machine, said, asked = HttpProxy(), b"", None
        for part in parts:
            if machine.closed:
                break
            machine.handle_data(part)
            while (out := machine.poll_transmit()) is not None:
                said += out
            asked = asked or machine.poll_event()
        return said, asked, machine.closed

    assert play([data]) == play(list(pieces(data)))


@target(
    b"GET /localapi/v0/status HTTP/1.1\r\nHost: local-tailscaled.sock\r\n\r\n",
    b"PATCH /localapi/v0/prefs HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    b"GET / HTTP/1.1\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
)
def localapi_http(data: bytes) -> None:
    """Requests end in an answer or in BadRequest, and none has two lengths."""
    conversation = Conversation(4096)
    parts = [*pieces(data), b""]
    with suppress(BadRequest):
        while True:
            step = conversation.next_untrusted()
            if step is Step.NEED_DATA:
                conversation.receive(parts.pop(0) if parts else b"")
            elif isinstance(step, Request):
                assert not {"transfer-encoding", "content-length"} <= step.headers.keys()
                assert step.path
            elif step is Step.END:
                conversation.answer(200, (), b"ok", close=False)
                if not conversation.next_request():
                    return
            elif isinstance(step, Step):
                return
