"""Candidate addresses."""

import pytest

from tailnet.agent.addr import AddrPort
from tailnet.agent.magicsock.candidate import Candidate, Pong, usable


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1.2.3.4:5", True),
        ("127.0.0.1:5", True),
        ("169.254.1.1:5", True),
        ("[2001:db8::1]:5", True),
        ("[fd00::1]:5", True),
        ("[::1]:5", True),
        ("1.2.3.4:0", False),
        ("0.0.0.0:5", False),
        ("224.0.0.1:5", False),
        ("255.255.255.255:5", False),
        ("[::]:5", False),
        ("[ff02::1]:5", False),
        ("[fe80::1]:5", False),
    ],
)
def test_usable(text: str, want: bool) -> None:
    """Groups, wildcards and links without scope are nobody's address."""
    assert usable(AddrPort.parse(text)) is want


def test_claims_keep_a_candidate() -> None:
    """Control's and the peer's word, or a ping or pong within 45 s."""
    candidate = Candidate()
    assert candidate.expired(0)
    candidate.heard_at = 100.0
    assert not candidate.expired(145)
    assert candidate.expired(145.1)
    candidate.answered(Pong(120.0, 0.1), 0)
    assert not candidate.expired(165)
    candidate.heard_at = None
    assert candidate.expired(121)
    candidate.called = True
    assert not candidate.expired(1e9)
