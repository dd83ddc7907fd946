"""UDP sockets are born with the offloads that are wanted."""

import os
import socket

import pytest

from tailnet.agent.magicsock.sockets.aio import Sockets
from tailnet.agent.magicsock.sockets.offload import PLAIN, Offload


@pytest.mark.parametrize("offload", [PLAIN, Offload(gso=False, gro=False, sentinel=True)])
def test_offloads_are_used_as_wanted(offload: Offload) -> None:
    """Every kernel that runs this has them."""
    for port in Sockets(lambda _: None, offload).bind(0):
        assert (port.gso, port.gro, port.sentinel) == offload
        os.close(port.fd)


@pytest.mark.parametrize("whole", [True, False])
def test_datagrams_are_not_fragmented_where_sizes_are_tried(whole: bool) -> None:
    """IP_MTU_DISCOVER and IPV6_MTU_DISCOVER; 2 is DO, 1 the kernel's own way."""
    levels = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
    for port in Sockets(lambda _: None, whole=whole).bind(0):
        with socket.socket(fileno=port.fd) as sock:
            assert (sock.getsockopt(*levels[sock.family]) == 2) is whole
