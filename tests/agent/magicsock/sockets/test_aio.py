"""UDP sockets are born with the offloads that are wanted."""

import errno
import os
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from tailnet.agent.magicsock.endpoints import InterfaceAddr
from tailnet.agent.magicsock.sockets.aio import Sockets
from tailnet.agent.magicsock.sockets.offload import PLAIN, Offload


@pytest.mark.parametrize("offload", [PLAIN, Offload(gso=False, gro=False, sentinel=True)])
def test_offloads_are_used_as_wanted(offload: Offload) -> None:
    """Every kernel that runs this has them."""
    for port in Sockets(lambda _: None, offload).bind(0):
        assert (port.gso, port.gro, port.sentinel) == offload
        os.close(port.fd)


def test_sockets_are_marked_before_they_are_bound_and_have_large_buffers() -> None:
    """7 MiB each way with privilege, else what the kernel allows; the kernel doubles its answer."""
    marked: list[tuple[int, int]] = []
    opened = Sockets(lambda sock: marked.append((sock.family, sock.getsockname()[1]))).bind(0)
    assert marked == [(port.family, 0) for port in opened]
    for port in opened:
        with socket.socket(fileno=port.fd) as sock:
            for option, limit in ((socket.SO_RCVBUF, "rmem_max"), (socket.SO_SNDBUF, "wmem_max")):
                most = int(Path("/proc/sys/net/core", limit).read_text())
                wanted = 7 << 20 if os.geteuid() == 0 else min(7 << 20, most)
                assert sock.getsockopt(socket.SOL_SOCKET, option) == 2 * wanted


@pytest.mark.parametrize("whole", [True, False])
def test_datagrams_are_not_fragmented_where_sizes_are_tried(whole: bool) -> None:
    """IP_MTU_DISCOVER and IPV6_MTU_DISCOVER; 2 is DO, 1 the kernel's own way."""
    levels = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
    for port in Sockets(lambda _: None, whole=whole).bind(0):
        with socket.socket(fileno=port.fd) as sock:
            assert (sock.getsockopt(*levels[sock.family]) == 2) is whole


def test_whether_datagrams_are_fragmented_is_decided_anew() -> None:
    """By the next sockets; nothing is news twice, or before there are any."""
    sockets = Sockets(lambda _: None)
    assert not sockets.want_whole(whole=True)
    assert not sockets.want_whole(whole=False)
    first = sockets.bind(0)
    for whole in (True, False):
        assert sockets.want_whole(whole=whole)
        assert not sockets.want_whole(whole=whole)
        for port in sockets.rebind():
            with socket.socket(fileno=port.fd) as sock:
                if sock.family == socket.AF_INET:
                    assert (sock.getsockopt(socket.IPPROTO_IP, 10) == 2) is whole
    for each in first:
        os.close(each.fd)


def test_where_the_system_does_not_say_addresses_are_those_of_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when no descriptor is left; what else is measured goes on."""
    eth = InterfaceAddr("eth0", ip_address("192.0.2.1"), 24, up=True)
    answers: list[list[InterfaceAddr] | OSError] = [OSError(errno.EMFILE, "too many"), [eth]]
    answers.append(OSError(errno.EMFILE, "too many"))

    def interfaces() -> list[InterfaceAddr]:
        if isinstance(answer := answers.pop(0), OSError):
            raise answer
        return answer

    monkeypatch.setattr("tailnet.agent.magicsock.sockets.aio.interface_addresses", interfaces)
    sockets = Sockets(lambda _: None)
    assert sockets.local_addresses() == ()
    assert sockets.local_addresses() == (eth.ip,)
    assert sockets.ip_versions() == {4}


def test_a_taken_port_is_replaced_by_the_next_and_taken_back_when_it_is_free() -> None:
    """Both families are on the same one, whichever it is."""
    foreign = [socket.socket(family, socket.SOCK_DGRAM) for family in (2, socket.AF_INET6)]
    foreign[0].bind(("127.0.0.1", 0))
    port = foreign[0].getsockname()[1]
    sockets = Sockets(lambda _: None)
    first = sockets.bind(port)
    assert sockets.ports.v4 > port or port > 65_500
    assert sockets.ports.v4 == sockets.ports.v6
    assert f"UDP port {port} is taken" in sockets.problem
    for holder in foreign:
        holder.close()
    second = sockets.rebind()
    assert sockets.ports.v4 == port
    assert sockets.problem == ""
    assert sockets.fixed
    for each in (*first, *second):
        os.close(each.fd)


def test_without_a_wish_no_port_is_wrong() -> None:
    """The kernel chooses, and a rebind stays there."""
    sockets = Sockets(lambda _: None)
    first = sockets.bind(0)
    port = sockets.ports.v4
    second = sockets.rebind()
    assert sockets.ports.v4 == port
    assert sockets.problem == ""
    for each in (*first, *second):
        os.close(each.fd)


def test_another_port_is_wanted_later() -> None:
    """Any but the one before; then the chosen one again.  What is wanted already is no news."""
    sockets = Sockets(lambda _: None)
    first = sockets.bind(0)
    chosen = sockets.ports.v4
    assert sockets.want(chosen)
    assert not sockets.want(chosen)
    second = sockets.rebind()
    assert sockets.fixed
    assert sockets.want(0)
    third = sockets.rebind()
    assert sockets.ports.v4 not in {0, chosen}
    kept = sockets.ports
    fourth = sockets.rebind()
    assert sockets.ports == kept
    assert sockets.want(chosen)
    fifth = sockets.rebind()
    assert sockets.ports.v4 == chosen
    for each in (*first, *second, *third, *fourth, *fifth):
        os.close(each.fd)


def test_before_there_is_a_socket_there_is_nothing_to_replace() -> None:
    """The wish counts for the first one."""
    assert not Sockets(lambda _: None).want(41641)
