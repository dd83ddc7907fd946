"""The TUN device, opened with the widest offloads the kernel grants.

With offloads each packet has a 10-byte virtio-net header and may be a TCP or UDP super-packet of
up to 64 KiB.  python-pytun opens the device; the descriptor that is used is a duplicate of its
own, non-blocking and closed on exec, so that it outlives the pytun object.

Source: Linux Documentation/networking/tuntap.rst; wireguard-go tun/tun_linux.go CreateTUN.
"""

import contextlib
import errno
import fcntl
import logging
import os
import re
import struct
from dataclasses import dataclass

import pytun

from tailnet.platform.interface import MTU, PlatformError
from tailnet.platform.linux.hostinfo import in_container
from tailnet.platform.linux.privileges import own_privileges

log = logging.getLogger("tailnet.platform")

DEVICE = "/dev/net/tun"
_OR_WITHOUT = ", or do without: --tun=userspace-networking"
MAX_NAME = 15  # bytes; IFNAMSIZ less the terminator
MIN_MTU = 1280  # below it the kernel takes IPv6 away from the device
MAX_MTU = 65535

_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_VNET_HDR_SIZE = 10  # bytes; struct virtio_net_hdr without num_buffers
_OFFLOAD_CSUM, _OFFLOAD_TSO4, _OFFLOAD_TSO6 = 0x01, 0x02, 0x04
_OFFLOAD_USO4, _OFFLOAD_USO6 = 0x20, 0x40  # Linux 6.2
_TCP = _OFFLOAD_CSUM | _OFFLOAD_TSO4 | _OFFLOAD_TSO6
_UDP = _OFFLOAD_USO4 | _OFFLOAD_USO6

# From and to the service address, port 0, TTL 0: 100 bytes and one more, to be cut after 100.
_PROBE = (
    struct.pack("=BBHHHH", 1, 1, 40, 100, 20, 16)
    + struct.pack(">BBHHHBBH4s4s", 0x45, 0, 141, 0, 0x4000, 0, 6, 0x1F01, *[bytes([100] * 4)] * 2)
    + struct.pack(">HHIIBBHHH", 0, 0, 1, 1, 0x50, 0x10, 1, 0x9145, 0)
    + bytes(101)
)

# "%" would ask the kernel to number the device, ":" is an alias
_NAME = re.compile(r"[^\s/:%\x00-\x1f\x7f]+")


@dataclass(slots=True)
class LinuxTun:
    """An open TUN device, see ``TunDevice``.  Made by ``open_tun``."""

    name: str
    mtu: int
    vnet_hdr: bool
    uso: bool
    _fd: int | None
    _more: tuple[int, ...] = ()

    def detach(self) -> int:
        """Give the non-blocking descriptor away; the caller closes it.

        Raises:
            PlatformError: it was given away or closed before.
        """
        if self._fd is None:
            line = f"{self.name} is closed"
            raise PlatformError(line)
        fd, self._fd = self._fd, None
        return fd

    def detach_more(self) -> tuple[int, ...]:
        """The same for the further queues."""
        more, self._more = self._more, ()
        return more

    def probe(self) -> bool:
        """Write a joined TCP group that goes nowhere; false if the kernel refuses its form.

        Some kernels of 2024 answer EINVAL to every group with a short end (Linux commit e269d79,
        mended by 89add40066f9).  Other errors say nothing about that.
        Source: tailscale net/tstun/linkfeatures_linux.go, probeTCPGRO.
        """
        if self._fd is None or not self.vnet_hdr:
            return False
        try:
            os.write(self._fd, _PROBE)
        except OSError as error:
            return error.errno != errno.EINVAL
        return True

    def close(self) -> None:
        """Close the descriptors that were not given away.  Idempotent."""
        for more in self.detach_more():
            os.close(more)
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)


def open_tun(name: str, *, mtu: int = MTU, offload: bool = True, queues: int = 1) -> LinuxTun:
    """Open or make the TUN device ``name``; it is gone when its descriptor is closed.

    Args:
        name: at most 15 bytes.
        mtu: bytes of IP per packet, 1280 to 65535.
        offload: ask for super-packets.  Where the kernel has none, packets come plain.
        queues: descriptors, each with packets of its own; the kernel keeps a flow on one.

    Raises:
        PlatformError: one line with the cause and what to do.
    """
    _check_name(name)
    if not MIN_MTU <= mtu <= MAX_MTU:
        line = f"MTU {mtu} is out of range; give {MIN_MTU} to {MAX_MTU}"
        raise PlatformError(line)
    vnet_hdr = uso = False
    with contextlib.ExitStack() as opened:
        fds = _open_queues(name, mtu, queues, opened, vnet_hdr=offload)
        if offload:
            vnet_hdr, uso = _enable_offload(fds[0])
            if not vnet_hdr:
                opened.close()  # the header is chosen when the device is opened
                fds = _open_queues(name, mtu, queues, opened, vnet_hdr=False)
        opened.pop_all()
    log.debug("%s: mtu %d, vnet_hdr %s, uso %s", name, mtu, vnet_hdr, uso)
    return LinuxTun(name, mtu, vnet_hdr, uso, fds[0], tuple(fds[1:]))


def _open_queues(
    name: str, mtu: int, queues: int, opened: contextlib.ExitStack, *, vnet_hdr: bool
) -> list[int]:
    fds = []
    for _ in range(queues):
        fds.append(_open(name, mtu, vnet_hdr=vnet_hdr, several=queues > 1))
        opened.callback(os.close, fds[-1])
    return fds


def _check_name(name: str) -> None:
    bad = None
    if not name:
        bad = "is empty"
    elif not _NAME.fullmatch(name) or name in {".", ".."}:
        bad = "has characters the kernel does not take"
    elif len(os.fsencode(name)) > MAX_NAME:
        bad = f"is longer than {MAX_NAME} bytes"
    if bad:
        line = f"interface name {name!r} {bad}; give another with --tun=NAME"
        raise PlatformError(line)


def _open(name: str, mtu: int, *, vnet_hdr: bool, several: bool) -> int:
    """A descriptor of our own for the device, or for one of ``several`` queues of it."""
    flags = pytun.IFF_TUN | pytun.IFF_NO_PI | (pytun.IFF_VNET_HDR if vnet_hdr else 0)
    flags |= pytun.IFF_MULTI_QUEUE if several else 0
    try:
        device = pytun.TunTapDevice(name=name, flags=flags)
    except OSError as error:
        raise _explain(error, name) from error
    with contextlib.closing(device):
        try:
            device.mtu = mtu
            fd = os.dup(device.fileno())
        except OSError as error:
            line = f"cannot set up {name} with MTU {mtu}: {error.strerror or error}"
            raise PlatformError(line) from error
    os.set_blocking(fd, False)
    return fd


def _enable_offload(fd: int) -> tuple[bool, bool]:
    """Switch on TCP, then UDP super-packets; says which of them work."""
    try:
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", _VNET_HDR_SIZE))
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _TCP)
    except OSError as error:
        log.debug("no offload: %s", error)
        return False, False
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _TCP | _UDP)
    except OSError:
        return True, False
    return True, True


def tun_problem() -> str:
    """Why no device can be opened, in one line; empty if nothing stands against it."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return str(_explain(error, "of any name"))
    return own_privileges().missing_for_tun or ""


def _explain(error: OSError, name: str) -> PlatformError:
    """The one line for what the kernel said."""
    match error.errno:
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            line = f"there is no {DEVICE}; {_how_to_get_the_device()}{_OR_WITHOUT}"
        case errno.EPERM | errno.EACCES:
            line = f"not allowed to open TUN device {name}; {_how_to_be_allowed()}{_OR_WITHOUT}"
        case errno.EBUSY:
            line = f"TUN device {name} is in use by another process; stop it or give --tun=NAME"
        case errno.EINVAL:
            line = f"interface {name} exists and is not a TUN device; give another with --tun=NAME"
        case _:
            line = f"cannot open TUN device {name}: {error.strerror or error}"
    return PlatformError(line)


def _how_to_get_the_device() -> str:
    if in_container():
        return "start the container with --device /dev/net/tun --cap-add NET_ADMIN"
    return "load its module: modprobe tun (after a kernel upgrade, reboot first)"


def _how_to_be_allowed() -> str:
    if in_container():
        return "start the container with --device /dev/net/tun --cap-add NET_ADMIN"
    return "run it as root or with CAP_NET_ADMIN"
