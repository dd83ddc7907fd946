"""How the host resolves names, and what a name is."""

from typing import Any

import pytest
from tests.agent.localapi.test_routes import ask
from tests.support.fake_backend import FakeBackend

from tailnet.agent.localapi.handlers.names import parse_type
from tailnet.agent.localapi.schema.basics import decode
from tailnet.agent.localapi.schema.names import DNSOSConfig, DNSQueryAnswer


async def test_the_host_before_us() -> None:
    """Or why it is not known."""
    before = DNSOSConfig(nameservers=("192.0.2.1",), search_domains=("home",), mode="direct")
    answer = await ask(FakeBackend(dns_before=before), "GET", "dns-osconfig")
    assert decode(answer.body, DNSOSConfig) == before
    answer = await ask(FakeBackend(dns_before="it is on fire"), "GET", "dns-osconfig")
    assert (answer.status, answer.body) == (500, b"it is on fire")


async def test_a_question_is_asked_with_its_type() -> None:
    """A if none is given."""
    backend = FakeBackend(dns_answer=DNSQueryAnswer(data=b"\x00\xff", why="because"))
    answer = await ask(backend, "GET", "dns-query", name="a.example")
    assert decode(answer.body, DNSQueryAnswer) == backend.dns_answer
    await ask(backend, "GET", "dns-query", name="a.example", type="aaaa")
    assert backend.calls == [("dns-query", "a.example", 1), ("dns-query", "a.example", 28)]


@pytest.mark.parametrize(
    "query", [{}, {"name": ""}, {"name": "x" * 256}, {"name": "a", "type": "NOPE"}]
)
async def test_nonsense_is_refused(query: Any) -> None:  # noqa: ANN401 - fields
    """In a line."""
    backend = FakeBackend()
    assert (await ask(backend, "GET", "dns-query", **query)).status == 400
    assert backend.calls == []


@pytest.mark.parametrize(
    ("word", "number"),
    [("", 1), ("A", 1), ("txt", 16), ("TYPE64", 64), ("TYPE65535", 65535), ("type1", 1)],
)
def test_types_have_names_and_numbers(word: str, number: int) -> None:
    """RFC 3597 for those without a name."""
    assert parse_type(word) == number


@pytest.mark.parametrize("word", ["TYPE", "TYPE0", "TYPE65536", "TYPE\u0661", "TYPE-1", "1", "x"])
def test_no_types(word: str) -> None:
    """Not guessed at."""
    assert parse_type(word) is None


async def test_names_of_this_host_are_changed_by_who_may() -> None:
    """And refused in words."""
    backend = FakeBackend()
    body = b'{"Name": "*.Dev.lan", "Addresses": ["127.0.0.1", "::1"]}'
    answer = await ask(backend, "POST", "dns-records", body=body)
    assert answer.body == b'[{"Name":"*.dev.lan","Addresses":["127.0.0.1","::1"]}]'
    gone: dict[str, Any] = {"name": "*.dev.lan", "addresses": "::1"}
    await ask(backend, "DELETE", "dns-records", **gone)
    assert backend.current.dns_records == ("*.dev.lan=127.0.0.1",)
    answer = await ask(backend, "DELETE", "dns-records", **gone)
    assert answer.status == 400
    for bad in (b"", b"{}", b'{"Name": 5}', b'{"Name": "a", "Addresses": ["x"]}'):
        assert (await ask(backend, "POST", "dns-records", body=bad)).status == 400
    assert (await ask(backend, "GET", "dns-records")).status == 200
