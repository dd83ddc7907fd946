"""Requests of peers: whom they are meant for, and the DNS message in them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.addr import AddrPort
from tailnet.agent.httpd.conversation import BadRequest, Request
from tailnet.agent.peerapi.requests import MESSAGE, check_untrusted, message_untrusted

OWN = AddrPort.parse("100.64.0.1:58436")


def request(host: str = str(OWN), method: str = "GET", dns: str = "", **headers: str) -> Request:
    """For ``/dns-query``."""
    return Request(method, host, "/dns-query", {"dns": dns}, headers)


@pytest.mark.parametrize("host", [str(OWN), "peer"])
def test_meant_for_us(host: str) -> None:
    """By address or by the word."""
    check_untrusted(request(host), OWN)


@pytest.mark.parametrize(
    "host",
    ["", "100.64.0.1", "100.64.0.1:80", "evil.example", "localhost:58436", "100.64.0.2:58436"],
)
def test_a_name_that_was_made_to_point_here_is_refused(host: str) -> None:
    """DNS rebinding: the browser says the name that it believes in."""
    with pytest.raises(BadRequest) as caught:
        check_untrusted(request(host), OWN)
    assert caught.value.status == 403


@pytest.mark.parametrize("name", ["origin", "referer"])
def test_web_pages_are_refused(name: str) -> None:
    """No program that asks for names sends these."""
    with pytest.raises(BadRequest):
        check_untrusted(request(**{name: "http://evil.example"}), OWN)


@given(st.binary(min_size=1, max_size=600))
def test_a_message_comes_through_both_ways(message: bytes) -> None:
    """With and without padding, and as a body."""
    text = base64.urlsafe_b64encode(message).decode()
    assert message_untrusted(request(dns=text), b"") == message
    assert message_untrusted(request(dns=text.rstrip("=")), b"") == message
    posted = request(method="POST", **{"content-type": MESSAGE})
    assert message_untrusted(posted, message) == message


@given(st.text(max_size=80), st.sampled_from(["GET", "POST", "PUT"]), st.text(max_size=20))
def test_any_request_is_read_or_refused(dns: str, method: str, kind: str) -> None:
    """Never anything else."""
    status = 200
    try:
        message_untrusted(request(method=method, dns=dns, **{"content-type": kind}), b"x")
    except BadRequest as error:
        status = error.status
    assert status in {200, 400, 405, 415}
