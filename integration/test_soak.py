"""Half a minute of ``make soak``."""

import pytest
from integration.lab.lab import Lab
from integration.lab.soak import HOSTS, run
from integration.lab.topology import flat

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(240)]

SECONDS = 30.0


def test_eight_machines_survive_changes_and_leak_nothing() -> None:
    """Everybody is reached after each change, and nobody has grown."""
    said: list[str] = []
    with Lab(flat(*(f"h{number}" for number in range(1, HOSTS + 1)))) as lab:
        assert run(lab, SECONDS, 7, said.append) == [], "\n".join(said)
