"""The implementations that one suite runs on."""

from collections.abc import Iterator

import pytest
from tests.support.datapath import MakeDatapath, Rig, make_native, make_native_wide, make_reference

MAKERS = {
    "reference": make_reference,
    "native": make_native,
    "native-ipsec-mb": make_native_wide,
}


@pytest.fixture(params=[*MAKERS.values()], ids=[*MAKERS])
def make(request: pytest.FixtureRequest) -> MakeDatapath:
    """Each implementation in turn."""
    made: MakeDatapath = request.param
    return made


@pytest.fixture
async def rig(make: MakeDatapath) -> Iterator[Rig]:  # type: ignore[misc]
    """A datapath without offload."""
    r = Rig(make)
    yield r
    r.close()


@pytest.fixture
async def vnet_rig(make: MakeDatapath) -> Iterator[Rig]:  # type: ignore[misc]
    """A datapath whose TUN device takes super-packets."""
    r = Rig(make, vnet_hdr=True)
    yield r
    r.close()
