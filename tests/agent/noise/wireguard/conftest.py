"""The implementations that one suite runs on."""

import pytest
from tests.support.handshakes import MAKERS, Make, maker


@pytest.fixture(params=[*MAKERS], scope="session")
def make(request: pytest.FixtureRequest) -> Make:
    """Each implementation in turn."""
    return maker(request.param)


@pytest.fixture(params=[*MAKERS], scope="session")
def make_other(request: pytest.FixtureRequest) -> Make:
    """And again, for the other side."""
    return maker(request.param)
