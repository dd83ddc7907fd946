"""Requests of the server to this node, and what it asks for in general."""

import asyncio
import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import IPAddress
from tailnet.agent.control.ask import (
    MAX_PAYLOAD,
    C2n,
    Head,
    HttpRequest,
    Pings,
    parse_ask_untrusted,
)
from tailnet.agent.control.c2n import (
    ROUTES,
    HttpResponse,
    answer,
    encode_response,
    parse_request_untrusted,
)
from tailnet.agent.errors import BadPacket
from tailnet.agent.tailcfg.mapping import PingRequest, PingResponse


class Node:
    """Answers with known values."""

    async def ping(self, ip: IPAddress, kind: str) -> PingResponse | None:
        """Never asked here."""
        raise NotImplementedError

    def prefs(self) -> bytes:
        """Some."""
        return b'{"CorpDNS":true}'

    def health(self) -> bytes:
        """Well."""
        return b'{"Warnings":{}}'

    def tasks(self) -> bytes:
        """None."""
        return b"task one:\n"

    async def metrics(self) -> bytes:
        """Of a process with one descriptor."""
        return b"process_open_fds 1\n"

    def netmap_untrusted(self, omit: tuple[str, ...], candidate: bytes | None) -> bytes:
        """What it was asked for."""
        if candidate == b"[]":
            msg = "no map"
            raise BadPacket(msg)
        return json.dumps([omit, candidate and candidate.decode()]).encode()


def answered(request: HttpRequest) -> HttpResponse:
    """By a node."""
    return asyncio.run(answer(request, Node()))


def ask(method: str, path: str, body: bytes = b"", **query: str) -> HttpResponse:
    """One request."""
    return answered(HttpRequest(method, path, query, body))


def test_echo_returns_the_body() -> None:
    """With any method."""
    assert ask("GET", "/echo") == HttpResponse(200, b"")
    assert ask("POST", "/echo", b"\0hi").body == b"\0hi"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/update", {"Err": "not supported", "Enabled": False, "Supported": False,
                            "Started": False}),
        ("POST", "/update", {"Err": "not supported", "Enabled": False, "Supported": False,
                             "Started": False}),
        ("GET", "/posture/identity", {"PostureDisabled": True}),
        ("GET", "/vip-services", {"VIPServices": [], "ServicesHash": ""}),
        ("GET", "/appconnector/routes", {"Domains": {}}),
        ("POST", "/ssh/usernames", {"Usernames": []}),
        ("GET", "/debug/prefs", {"CorpDNS": True}),
        ("GET", "/debug/health", {"Warnings": {}}),
    ],
)  # fmt: skip
def test_what_upstream_answers_in_json(method: str, path: str, expected: object) -> None:
    """With the fields that servers read."""
    response = ask(method, path)
    assert (response.status, response.content_type) == (200, "application/json")
    assert json.loads(response.body) == expected


def test_tasks_stand_for_goroutines() -> None:
    """As text."""
    response = ask("GET", "/debug/goroutines")
    assert (response.status, response.body) == (200, b"task one:\n")
    assert response.content_type.startswith("text/plain")


def test_the_network_map_is_asked_for_with_wishes() -> None:
    """Fields to leave out and a candidate by POST; what makes no sense is the asker's mistake."""
    assert json.loads(ask("GET", "/debug/netmap").body) == [[], None]
    body = b'{"OmitFields":["Peers"],"Candidate":{"Node":{"ID":1}}}'
    assert json.loads(ask("POST", "/debug/netmap", body).body) == [["Peers"], '{"Node":{"ID":1}}']
    assert json.loads(ask("POST", "/debug/netmap", b"{}").body) == [[], None]
    for bad in (b"", b"[]", b'{"Candidate":[]}', b'{"OmitFields":1}'):
        assert ask("POST", "/debug/netmap", bad).status == 400


def test_every_path_is_in_the_protocol_notes() -> None:
    """With what we say to it."""
    notes = (Path(__file__).parents[3] / "docs/protocol/control.md").read_text()
    for route in ROUTES:
        assert f"`{route.rpartition(' ')[2]}`" in notes, route


def test_methods_and_paths_are_told_apart() -> None:
    """As upstream: 405 for the method, 400 for the path."""
    assert ask("POST", "/logtail/flush") == HttpResponse(204)
    assert (ask("GET", "/logtail/flush").status, ask("GET", "/logtail/flush").body) == (
        405,
        b"bad method\n",
    )
    assert (ask("GET", "/nothing").status, ask("GET", "/nothing").body) == (
        400,
        b"unknown c2n path\n",
    )
    assert ask("GET", "/tls-cert-status").status == 400
    assert ask("GET", "/tls-cert-status", domain="a.b").body == b'{"Missing":true}'


def test_what_is_declined_says_so() -> None:
    """501 and a sentence; the LocalAPI is not for servers."""
    for route in ROUTES:
        method, _, path = route.rpartition(" ")
        response = ask(method or "GET", path, b"{}", domain="a.b")
        assert response.status in {200, 204, 501}
        if response.status == 501:
            assert response.body.startswith(b"this node ")
    assert ask("GET", "/remoteapi/localapi/v0/prefs").status == 403


def test_request_text_is_parsed() -> None:
    """Method, path, query, headers, body up to its length."""
    text = b"POST /wol?mac=a%20b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nabc"
    request = parse_request_untrusted(text)
    assert (request.method, request.path, request.query) == ("POST", "/wol", {"mac": "a b"})
    assert (request.headers["host"], request.body) == ("x", b"ab")


@pytest.mark.parametrize(
    "text",
    [b"", b"GET / HTTP/1.1\r\n", b"GET /\r\n\r\n", b"G T / HTTP/1.1\r\n\r\n",
     b"\xff / HTTP/1.1\r\n\r\n",
     b"GET http://[x HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a" * 70_000 + b"\r\n\r\n"],
)  # fmt: skip
def test_text_that_is_no_request_is_refused(text: bytes) -> None:
    """With the one error."""
    with pytest.raises(BadPacket):
        parse_request_untrusted(text)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    """Nothing else escapes, and what parses can be answered."""
    try:
        request = parse_request_untrusted(data)
    except BadPacket:
        return
    encode_response(answered(request))


def test_response_text_is_http() -> None:
    """A length always, except where there is no body by definition."""
    assert encode_response(HttpResponse(200, b"hi")) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nhi"
    )
    assert encode_response(HttpResponse(204)) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert encode_response(HttpResponse(405, headers={"Allow": "GET"})) == (
        b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n"
    )
    assert encode_response(HttpResponse(299)).startswith(b"HTTP/1.1 299 Unknown\r\n")


def test_kinds_of_asking() -> None:
    """Sign of life, pings in their order, c2n always within the Noise connection."""
    url = "https://c.example:8443/a?id=1"
    head = parse_ask_untrusted(PingRequest(url=url))
    assert isinstance(head, Head)
    target = head.target
    assert (target.noise, target.server.tls, target.path) == (False, True, "/a?id=1")
    assert target.server.authority == "c.example:8443"
    pings = parse_ask_untrusted(
        PingRequest(url=url, url_is_noise=True, types="TSMP,disco,TSMP,odd", ip="100.64.0.2")
    )
    assert isinstance(pings, Pings)
    assert (pings.target.noise, pings.kinds, str(pings.ip)) == (
        True,
        ("TSMP", "disco"),
        "100.64.0.2",
    )
    payload = base64.b64encode(b"GET /echo HTTP/1.1\r\n\r\n").decode()
    c2n = parse_ask_untrusted(PingRequest(url="https://unused/c2n/1", types="c2n", payload=payload))
    assert isinstance(c2n, C2n)
    assert (c2n.target.noise, c2n.target.path) == (True, "/c2n/1")
    assert c2n.payload.startswith(b"GET /echo")


def test_the_longest_request_is_still_read() -> None:
    """A byte more is not."""
    longest = "A" * MAX_PAYLOAD
    asked = parse_ask_untrusted(PingRequest(url="https://x/", types="c2n", payload=longest))
    assert isinstance(asked, C2n)
    with pytest.raises(BadPacket):
        parse_ask_untrusted(PingRequest(url="https://x/", types="c2n", payload=longest + "AAAA"))


@pytest.mark.parametrize(
    "request_",
    [
        PingRequest(url=""),
        PingRequest(url="file:///etc/passwd"),
        PingRequest(url="https://x/\r\nA: b"),
        PingRequest(url="https://x:99999999/"),
        PingRequest(url="https://x/ y"),
        PingRequest(url="https://x/", types="disco"),
        PingRequest(url="https://x/", types="odd", ip="100.64.0.1"),
        PingRequest(url="https://x/", types="c2n", payload="!"),
        PingRequest(url="https://x/", types="c2n", payload="A" * (1 << 21)),
    ],
)
def test_senseless_asking_is_refused(request_: PingRequest) -> None:
    """Nothing is sent anywhere."""
    with pytest.raises(BadPacket):
        parse_ask_untrusted(request_)


@given(st.text(max_size=80), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_any_asking_is_understood_or_refused(url: str, types: str, ip: str, payload: str) -> None:
    """Only the one error."""
    try:
        parse_ask_untrusted(PingRequest(url=url, types=types, ip=ip, payload=payload))
    except BadPacket:
        return


NOT_ALLOWED = (405, "bad method")
APPENDIX = {
    "GET /echo": (200, ""),
    "POST /echo": (200, ""),
    "POST /logtail/flush": (204, ""),
    "GET /logtail/flush": NOT_ALLOWED,
    "POST /sockstats": (501, "this node counts no socket statistics"),
    "GET /sockstats": NOT_ALLOWED,
    "GET /debug/prefs": (200, "{"),
    "GET /debug/metrics": (200, "process_open_fds 1"),
    "GET /debug/goroutines": (200, "task one:"),
    "GET /debug/component-logging?component=x&secs=1": (200, '{"Error":'),
    "GET /debug/logheap": (501, "this node does not hand out its memory"),
    "GET /debug/pprof/heap": (501, "this node does not hand out its memory"),
    "GET /debug/pprof/allocs": (501, "this node does not hand out its memory"),
    "GET /debug/netmap": (200, "[[], null]"),
    "POST /debug/netmap": (400, "bad JSON"),
    "GET /debug/health": (200, '{"Warnings":'),
    "GET /debug/tka/log?limit=5": (501, "this node has no tailnet lock"),
    "POST /netfilter-kind?kind=nftables": (501, "this node chooses its kind"),
    "GET /netfilter-kind": NOT_ALLOWED,
    "GET /update": (200, '{"Err":"not supported"'),
    "POST /update?force=true": (200, '{"Err":"not supported"'),
    "GET /posture/identity?hwaddrs=true": (200, '{"PostureDisabled":true}'),
    "GET /appconnector/routes": (200, '{"Domains":{}}'),
    "GET /tls-cert-status?domain=a.b": (200, '{"Missing":true}'),
    "GET /tls-cert-status": (400, "no 'domain'"),
    "GET /vip-services": (200, '{"VIPServices":[]'),
    "POST /wol?mac=00:11:22:33:44:55": (200, '{"SentTo":null'),
    "GET /wol": NOT_ALLOWED,
    "POST /ssh/usernames": (200, '{"Usernames":[]}'),
    "GET /conn25/state": (501, "this node is no connector"),
    "GET /remoteapi/localapi/v0/status": (403, "remote configuration is not allowed here"),
    "PATCH /remoteapi/localapi/v0/prefs": (403, "remote configuration is not allowed here"),
    "GET /dns/anything": (400, "unknown c2n path"),
    "GET /": (400, "unknown c2n path"),
}


@pytest.mark.parametrize("line", APPENDIX)
def test_every_path_that_a_server_may_ask_for(line: str) -> None:
    """Answered as upstream does, or declined by a status and one sentence."""
    status, begins = APPENDIX[line]
    response = answered(parse_request_untrusted(f"{line} HTTP/1.1\r\n\r\n".encode()))
    assert response.status == status
    assert response.body.decode().startswith(begins)


def test_no_path_is_missing_from_the_table() -> None:
    """Each that is served is asked for above."""
    asked = {line.partition("?")[0] for line in APPENDIX}
    for route in ROUTES:
        assert route in asked or f"GET {route}" in asked or f"POST {route}" in asked
