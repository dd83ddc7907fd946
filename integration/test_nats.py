"""Some pairs of translators on a real kernel; ``make nat-matrix`` does all of them.

::

    bridge: control, DERP, STUN ── router (nftables) ── host        each host its own router
"""

import pytest
from integration.conftest import MakeLab
from integration.lab.kinds import translated
from integration.lab.lab import Lab
from integration.lab.matrix import run_matrix

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

PAIRS = [
    ("port", "port"),  # both must punch
    ("sym", "addr"),  # the port is learned from the ping
    ("double", "port"),
    ("open", "sym"),
    ("addr", "six"),  # only by IPv4, whose port is learned from the ping
    ("sym", "port"),  # a port would have to be guessed: relay
]


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """All hosts that the pairs name, joined."""
    ends = [(f"{one}a", one) for one, _ in PAIRS] + [(f"{two}b", two) for _, two in PAIRS]
    lab = make_lab(translated(**dict(ends)))
    lab.join()
    lab.wait_complete(30)
    return lab


def test_pairs_reach_what_theory_allows(lab: Lab) -> None:
    """Directly, or through the relay without loss."""
    results = run_matrix(lab, PAIRS)
    assert [r for r in results if not r.right] == []
