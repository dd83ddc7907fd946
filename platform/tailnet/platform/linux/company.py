"""Whether another daemon has this host's routes: two would undo each other's all day."""

import errno
from collections.abc import Iterable
from socket import if_indextoname

from tailnet.platform.interface import HostTakenError
from tailnet.platform.linux.ethtool import driver
from tailnet.platform.linux.rules import Route


def company(ours: Iterable[Route], index: int | None) -> str:
    """The other one's device; empty if there is none.

    Routes go with their device: where one of ours has another TUN device, a daemon is alive.

    Args:
        ours: routes that one of us made.
        index: of our own device; ``None`` where it is gone.
    """
    for other in sorted({route.oif for route in ours if route.oif not in {None, index}}, key=str):
        if name := _tunnel(other or 0):
            return name
    return ""


def refuse_company(ours: Iterable[Route], index: int | None) -> None:
    """See :func:`company`.

    Raises:
        HostTakenError: there is some.
    """
    if name := company(ours, index):
        line = (
            f"another tailnetd has this host's routes (device {name}); stop it, "
            "or run this one with --tun=userspace-networking"
        )
        raise HostTakenError(line)


def _tunnel(index: int) -> str:
    try:
        name = if_indextoname(index)
        return name if driver(name) == "tun" else ""
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP}:
            return ""
        raise
