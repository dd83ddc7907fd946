"""Bad links on a real kernel; ``make impairment`` gives each more time.

::

    h1 ── loss, delay, reordering, duplicates ── bridge: control, DERP, STUN ── h2
"""

import pytest
from integration.conftest import MakeLab
from integration.lab.bad_link import BadLink
from integration.lab.impairment import ROWS, examine, join
from integration.lab.lab import Lab
from integration.lab.topology import flat

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(90)]

SECONDS = 5.0
FEW = 3  # pings of so short a time that chance may take besides


@pytest.fixture(scope="module")
def bad(make_lab: MakeLab) -> tuple[Lab, BadLink]:
    """Joined, on a link that is good so far."""
    lab = make_lab(flat("h1", "h2"))
    return lab, join(lab)


@pytest.mark.parametrize("name", ROWS)
def test_the_session_stays_and_the_path_does_not_flap(bad: tuple[Lab, BadLink], name: str) -> None:
    """Hardly more pings are lost than the link takes, and the path changes once at most."""
    lab, link = bad
    row = ROWS[name]
    found = examine(lab.hosts["h1"], lab.hosts["h2"], link, row, SECONDS)
    pings = SECONDS / 0.2
    assert found.lost * pings <= row.most_lost * pings + FEW
    # Two heartbeats in a row may be lost: 13 % of them where each way loses a fifth.
    assert found.switches * SECONDS / 60 <= (4 if row.bad.loss >= 0.2 else 2)
    assert found.average_ms >= row.bad.delay * 2000
