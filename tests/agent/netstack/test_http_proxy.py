"""The HTTP proxy, head by head."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.netstack.http_proxy import MAX_HEAD, HttpProxy
from tailnet.agent.netstack.interface import Connect, DialError, Failure

BOUND = AddrPort.parse("100.64.0.1:4000")


def fed(*pieces: bytes) -> HttpProxy:
    """A machine that got these."""
    machine = HttpProxy()
    for piece in pieces:
        machine.handle_data(piece)
    return machine


@pytest.mark.parametrize("target", [b"h2:443", b"100.64.0.2:443", b"[fd7a::2]:443"])
def test_connect_makes_a_tunnel(target: bytes) -> None:
    """The answer comes once there is one; what follows the head goes through it."""
    machine = fed(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n", b"\r\n\x16\x03")
    host = target.decode().rpartition(":")[0].strip("[]")
    assert machine.poll_event() == Connect(host, 443)
    assert machine.poll_transmit() is None
    machine.handle_connected(BOUND)
    assert machine.poll_transmit() == b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert machine.early == b"\x16\x03"


def test_an_absolute_url_becomes_a_request_for_its_server() -> None:
    """Fields of this hop are gone, Host is the URL's, the connection ends after the answer."""
    machine = fed(
        b"POST http://h2:8080/a?b=c#d HTTP/1.1\r\nHost: wrong\r\nX-Kept: 1\r\n"
        b"Proxy-Connection: keep-alive\r\nProxy-Authorization: secret\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 2\r\nContent-Length: 4\r\n\r\nbody"
    )
    assert machine.poll_event() == Connect("h2", 8080)
    machine.handle_connected(BOUND)
    assert machine.poll_transmit() is None
    assert machine.early == (
        b"POST /a?b=c HTTP/1.1\r\nHost: h2:8080\r\nX-Kept: 1\r\nContent-Length: 4\r\n"
        b"Connection: close\r\n\r\nbody"
    )


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        (b"http://h2", "h2", b"/"),
        (b"HTTP://[fd7a::2]/x", "fd7a::2", b"/x"),
        (b"http://h2?q", "h2", b"/?q"),
    ],
)
def test_urls_have_a_default_port_and_path(url: bytes, host: str, path: bytes) -> None:
    """80 and a slash."""
    machine = fed(b"GET " + url + b" HTTP/1.1\r\n\r\n")
    assert machine.poll_event() == Connect(host, 80)
    assert machine.early.startswith(b"GET " + path + b" HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1",
        b"GET https://h2/ HTTP/1.1",
        b"GET http://user@h2/ HTTP/1.1",
        b"GET http://h2:0/ HTTP/1.1",
        b"GET http://h2:65536/ HTTP/1.1",
        b"GET http:///x HTTP/1.1",
        b"GET http://h2/\n HTTP/1.1",
        b"GET http://h2/\xc3 HTTP/1.1",
        b"CONNECT h2 HTTP/1.1",
        b"CONNECT h2:443",
        b"CONNECT h2:443 HTTP/2",
        b"CONNECT fd7a::2:443 HTTP/1.1",
        b"GET http://h2/ HTTP/1.1\r\nno colon",
        b"GET http://h2/ HTTP/1.1\r\nBad Name: x",
        b"GET http://h2/ HTTP/1.1\r\nX: a\nY: b",
        b"nonsense",
    ],
)
def test_garbage_is_a_bad_request(head: bytes) -> None:
    """Answered, then closed."""
    machine = fed(head + b"\r\n\r\n")
    assert (machine.poll_transmit() or b"").startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert machine.closed
    assert machine.poll_event() is None


def test_a_head_without_end_is_cut_off() -> None:
    """431, not memory."""
    machine = fed(b"GET http://h2/ HTTP/1.1\r\nX: " + b"a" * MAX_HEAD)
    assert (machine.poll_transmit() or b"").startswith(b"HTTP/1.1 431 ")
    assert machine.closed


def test_a_failed_connection_is_said_in_upstreams_header() -> None:
    """``Tailscale-Connect-Error``."""
    machine = fed(b"CONNECT h2:1 HTTP/1.1\r\n\r\n")
    machine.handle_failed(DialError(Failure.REFUSED, "h2"))
    answer = machine.poll_transmit() or b""
    assert answer.startswith(
        b"HTTP/1.1 502 Bad Gateway\r\nTailscale-Connect-Error: h2: connection refused\r\n"
    )
    assert answer.endswith(b"\r\n\r\nh2: connection refused\n")
    assert machine.closed


@given(st.binary(max_size=300), st.integers(0, 300))
def test_anything_is_survived(data: bytes, cut: int) -> None:
    """No exception, and at most one event."""
    machine = fed(data[:cut], data[cut:], b"\r\n\r\n")
    assert (machine.poll_event() is not None) + machine.closed <= 1
