"""Proxies from the environment."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.derp.proxy import (
    Proxy,
    Tunnel,
    bypasses,
    connect_request,
    parse_proxy,
    proxy_for,
)
from tailnet.agent.errors import BadPacket, RemoteProtocolError, UserError

ENVIRON = {"HTTPS_PROXY": "http://secure:1", "http_proxy": "plain:2", "NO_PROXY": "in.example"}


def test_each_scheme_has_its_proxy() -> None:
    """Upper case before lower; a missing scheme means http."""
    assert proxy_for("c.example", 443, tls=True, environ=ENVIRON) == Proxy("secure", 1, tls=False)
    assert proxy_for("c.example", 80, tls=False, environ=ENVIRON) == Proxy("plain", 2, tls=False)
    assert proxy_for("c.example", 80, tls=False, environ={}) is None
    assert proxy_for("in.example", 443, tls=True, environ=ENVIRON) is None


@pytest.mark.parametrize(
    ("host", "no_proxy", "bypassed"),
    [
        ("localhost", "", True),
        ("127.0.0.9", "", True),
        ("::1", "", True),
        ("c.example", "", False),
        ("c.example", "*", True),
        ("c.example", "other, c.example", True),
        ("c.example", "example", True),
        ("c.example", ".example", True),
        ("c.example", "*.example", True),
        ("cexample", "example", False),
        ("c.example", ".c.example", False),
        ("C.Example.", "c.example", True),
        ("c.example", "c.example:443", True),
        ("c.example", "c.example:80", False),
        ("c.example", ",,:", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:80", False),
        ("10.1.2.3", "3", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "[fd00::1]:443", True),
    ],
)
def test_who_needs_no_proxy(host: str, no_proxy: str, bypassed: bool) -> None:
    """On port 443."""
    assert bypasses(host, 443, no_proxy) is bypassed


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_list_is_read(host: str, no_proxy: str) -> None:
    """Without an exception."""
    assert bypasses(host, 443, no_proxy) in {True, False}


def test_credentials_are_decoded_and_not_shown() -> None:
    """They go into a header, and nowhere else."""
    proxy = parse_proxy("https://user:p%40ss@proxy.example", "HTTPS_PROXY")
    assert (proxy.host, proxy.port, proxy.tls) == ("proxy.example", 443, True)
    assert base64.b64decode(proxy.credentials) == b"user:p@ss"
    assert proxy.url == "https://proxy.example:443"
    assert connect_request("c.example", 443, proxy.credentials) == (
        b"CONNECT c.example:443 HTTP/1.1\r\nHost: c.example:443\r\n"
        b"Proxy-Authorization: Basic " + proxy.credentials.encode() + b"\r\n\r\n"
    )
    assert b"Authorization" not in connect_request("::1", 80, "")


@pytest.mark.parametrize("text", ["socks5://x:1", "http://", "http://x:port", "http://[x"])
def test_what_is_no_http_proxy_is_named(text: str) -> None:
    """By the variable, not by its value, which may hold a password."""
    with pytest.raises(UserError, match="HTTPS_PROXY is not the URL of an HTTP proxy"):
        parse_proxy(text, "HTTPS_PROXY")


def test_tunnel_opens_or_says_why_not() -> None:
    """Byte by byte."""
    tunnel = Tunnel("http://p:1")
    head = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"
    assert [tunnel.receive_untrusted(bytes([b])) for b in head] == [False] * (len(head) - 1) + [
        True
    ]
    for status, words in ((407, "wants a user name"), (403, "refuses: 403")):
        with pytest.raises(RemoteProtocolError, match=words):
            Tunnel("http://p:1").receive_untrusted(b"HTTP/1.1 %d No\r\n\r\n" % status)
    with pytest.raises(BadPacket):
        Tunnel("http://p:1").receive_untrusted(b"SSH-2.0\r\n")
