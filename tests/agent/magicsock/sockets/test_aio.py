"""UDP sockets are born with the offloads that are wanted."""

import os

import pytest

from tailnet.agent.magicsock.sockets.aio import Sockets
from tailnet.agent.magicsock.sockets.offload import PLAIN, Offload


@pytest.mark.parametrize("offload", [PLAIN, Offload(gso=False, gro=False, sentinel=True)])
def test_offloads_are_used_as_wanted(offload: Offload) -> None:
    """Every kernel that runs this has them."""
    for port in Sockets(lambda _: None, offload).bind(0):
        assert (port.gso, port.gro, port.sentinel) == offload
        os.close(port.fd)
