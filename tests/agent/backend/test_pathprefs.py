"""Prefs of ours about paths."""

import pytest

from tailnet.agent.addr import AddrPort
from tailnet.agent.backend.pathprefs import check_interfaces, parse_endpoints, parse_policies
from tailnet.agent.errors import UserError
from tailnet.agent.magicsock.peers import Policy


def test_policies() -> None:
    """By stable id; the last word counts."""
    assert parse_policies(["n1=relay-only", "n2=auto", "n1=direct-only"]) == {
        "n1": Policy.DIRECT_ONLY,
        "n2": Policy.AUTO,
    }


@pytest.mark.parametrize("text", ["", "n1", "n1=", "=auto", "n1=Direct", "n1=relay"])
def test_bad_policies_are_refused_with_the_form(text: str) -> None:
    """In one line."""
    with pytest.raises(UserError, match=r"PEER=auto\|direct-only\|relay-only"):
        parse_policies([text])


def test_interfaces() -> None:
    """Names as Linux has them, with a sign."""
    check_interfaces(["eth0", "+en*", "-docker?", "-br-0a1b"])
    for bad in ("", "+", "-", "a b", "a/b", "--x", "x" * 40):
        with pytest.raises(UserError, match="bad interface"):
            check_interfaces([bad])


def test_endpoints() -> None:
    """An address and a port."""
    good = ["192.0.2.1:41641", "[2001:db8::1]:1"]
    assert parse_endpoints(good) == tuple(map(AddrPort.parse, good))
    for bad in ("192.0.2.1", "192.0.2.1:0", "0.0.0.0:1", "224.0.0.1:1", "name:1", ""):
        with pytest.raises(UserError, match="bad endpoint"):
            parse_endpoints([bad])
