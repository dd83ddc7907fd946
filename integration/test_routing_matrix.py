"""The table of ``make routing``: with ``tailscaled`` where one is named, else ours alone."""

import pytest
from integration.conftest import MakeLab
from integration.lab.routing import examine, named, names
from integration.lab.topology import flat

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]


def test_who_is_seen_and_by_which_way_is_as_the_table_says(make_lab: MakeLab) -> None:
    """Subnet routes with and without SNAT, and exit nodes, of both families."""
    program = named()
    lab = make_lab(flat(*names(program)))
    cells = examine(lab, program)
    assert len(cells) == (4 if program is None else 16)
    assert [cell for cell in cells if not cell.good] == []
