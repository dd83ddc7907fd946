"""One attempt by UPnP."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from tests.support.gateway import GATEWAY, NETWORK, OUTSIDE, PORT, Gateway

from tailnet.agent.errors import BadPacket
from tailnet.agent.portmap.ask import Denied, Granted
from tailnet.agent.portmap.igd import MAX_SERVICES, AskIgd, Post
from tailnet.agent.portmap.upnp import SERVICES

URL = f"http://{GATEWAY}:5000/rootDesc.xml"


def ask(*locations: str) -> AskIgd:
    """With tickets from 1."""
    return AskIgd(locations, NETWORK, PORT, 30000, random_bytes=bytes, ticket=count(1).__next__)


def carry_out(attempt: AskIgd, gateway: Gateway) -> Granted | Denied | None:
    """Until there is a result, or nothing is asked any more."""
    for _ in range(10):
        for post in attempt.take_posts():
            status, body = gateway.http(post, 0.0)
            attempt.handle_answer_untrusted(post.ticket, post.url, status, body)
    return attempt.result


def test_without_a_usable_address_nothing_is_asked() -> None:
    """Of a gateway that names none."""
    assert isinstance(ask("ftp://x/", "http://").result, Denied)
    assert isinstance(ask().result, Denied)


def test_the_best_service_that_answers_is_chosen() -> None:
    """Each is asked for its state, then one for the mapping."""
    gateway = Gateway()
    gateway.services = SERVICES
    granted = carry_out(ask(URL), gateway)
    assert isinstance(granted, Granted)
    assert (granted.ip, granted.port, granted.lifetime) == (OUTSIDE, 30000, 7200)
    assert granted.service is not None
    assert granted.service.type == SERVICES[0]
    assert gateway.heard.count("GetStatusInfo") == len(SERVICES)
    assert gateway.heard.count("AddAnyPortMapping") == 1


def test_a_gateway_that_forbids_is_asked_once() -> None:
    """Another port would not change its mind."""
    gateway = Gateway()
    gateway.error = 606
    assert carry_out(ask(URL), gateway) == Denied("refused, error 606")
    assert gateway.heard.count("AddPortMapping") == 1


def test_a_gateway_full_of_services_is_asked_for_few() -> None:
    """However many it names."""
    attempt = ask(URL)
    [get] = attempt.take_posts()
    entries = "".join(
        f"<service><serviceType>{SERVICES[1]}</serviceType><controlURL>/{n}</controlURL></service>"
        for n in range(500)
    )
    attempt.handle_answer_untrusted(get.ticket, get.url, 200, f"<root>{entries}</root>".encode())
    assert len(attempt.take_posts()) == 2 * MAX_SERVICES


@given(st.lists(st.tuples(st.sampled_from([0, 200, 302, 500]), st.binary(max_size=100))))
def test_whatever_is_answered_there_is_an_end(answers: list[tuple[int, bytes]]) -> None:
    """Once each request has got something, or nothing; only BadPacket leaves."""
    attempt = ask(URL, URL + "?2")
    waiting: list[Post] = attempt.take_posts()
    for _ in range(100):
        if not waiting:
            break
        post = waiting.pop(0)
        status, body = answers.pop(0) if answers else (0, b"")
        try:
            attempt.handle_answer_untrusted(post.ticket, post.url, status, body)
        except BadPacket:
            assert status
        waiting += attempt.take_posts()
    assert isinstance(attempt.result, Denied)
