"""Who answered the questions for a gateway."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.portmap.test_ssdp import IGD, answer

from tailnet.agent.errors import BadPacket
from tailnet.agent.portmap.interface import Protocol
from tailnet.agent.portmap.search import MAX_GATEWAYS, Search


def test_answers_are_kept_the_newest_version_first_and_no_more_than_a_few() -> None:
    """Each address once."""
    search = Search()
    for number in range(2 * MAX_GATEWAYS):
        url = f"http://192.168.7.1:{number}/"
        search.handle_ssdp_untrusted(answer(ST=IGD + "12"[number % 2], LOCATION=url))
    assert search.heard == {Protocol.UPNP}
    assert search.descriptions() == [f"http://192.168.7.1:{number}/" for number in (1, 3, 0, 2)]


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(answer()[:60].__add__)))
def test_garbage_is_no_gateway(data: bytes) -> None:
    """Nor an error of another kind."""
    search = Search()
    try:
        search.handle_ssdp_untrusted(data)
    except BadPacket:
        assert not search.heard


def test_something_else_that_answers_is_no_gateway() -> None:
    """A printer, say."""
    search = Search()
    search.handle_ssdp_untrusted(answer(ST="upnp:printer", USN="uuid:1"))
    assert not search.heard
    with pytest.raises(BadPacket):
        search.handle_ssdp_untrusted(answer(LOCATION="ftp://192.168.7.1/"))
    assert not search.heard
