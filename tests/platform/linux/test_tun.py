"""What the user is told when the TUN device cannot be opened."""

import errno
import os
from unittest.mock import Mock

import pytest
import pytun
from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux import tun


def opening_fails(monkeypatch: pytest.MonkeyPatch, code: int, *, container: bool = False) -> str:
    """The line for an error of the kernel."""
    error = OSError(code, os.strerror(code))
    monkeypatch.setattr(pytun, "TunTapDevice", Mock(side_effect=error))
    monkeypatch.setattr(tun, "in_container", lambda: container)
    with pytest.raises(PlatformError) as caught:
        tun.open_tun("tailnet0")
    return str(caught.value)


NO_DEVICE = "there is no /dev/net/tun; "
WITHOUT = ", or do without: --tun=userspace-networking"
MODPROBE = "load its module: modprobe tun (after a kernel upgrade, reboot first)" + WITHOUT
NOT_ALLOWED = "not allowed to open TUN device tailnet0; "
CONTAINER = "start the container with --device /dev/net/tun --cap-add NET_ADMIN" + WITHOUT
BUSY = "TUN device tailnet0 is in use by another process; stop it or give --tun=NAME"


@pytest.mark.parametrize(
    ("code", "container", "line"),
    [
        (errno.ENOENT, False, NO_DEVICE + MODPROBE),
        (errno.ENODEV, False, NO_DEVICE + MODPROBE),
        (errno.ENOENT, True, NO_DEVICE + CONTAINER),
        (errno.EPERM, False, NOT_ALLOWED + "run it as root or with CAP_NET_ADMIN" + WITHOUT),
        (errno.EACCES, True, NOT_ALLOWED + CONTAINER),
        (errno.EBUSY, False, BUSY),
        (errno.EIO, False, "cannot open TUN device tailnet0: Input/output error"),
    ],
)
def test_cause_and_remedy_are_told(
    monkeypatch: pytest.MonkeyPatch, code: int, line: str, *, container: bool
) -> None:
    """In one line."""
    assert opening_fails(monkeypatch, code, container=container) == line


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "a:b", "tun%d", "a\nb", "x" * 16])
def test_impossible_name_is_refused(name: str) -> None:
    """Before the kernel sees it; "tun%d" would make it choose another one."""
    with pytest.raises(PlatformError, match="interface name"):
        tun.open_tun(name)


@given(st.text())
def test_refusal_is_one_line(name: str) -> None:
    """Whatever the name."""
    with pytest.raises(PlatformError) as caught:
        tun._check_name(name + "/")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("mtu", [0, 1279, 65536])
def test_impossible_mtu_is_refused(mtu: int) -> None:
    """IPv6 needs 1280."""
    with pytest.raises(PlatformError, match="MTU"):
        tun.open_tun("tailnet0", mtu=mtu)


class PaperDevice:
    """What pytun gives, over a file."""

    opened: list[int]
    mtu = 0

    def __init__(self, name: str, flags: int) -> None:
        del name
        self.opened.append(flags)
        self._fd = os.open(os.devnull, os.O_RDONLY)

    def fileno(self) -> int:
        """Of the file."""
        return self._fd

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def test_kernel_without_offload_gets_a_plain_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened anew without the header; the descriptor is not pytun's own."""
    PaperDevice.opened = []
    monkeypatch.setattr(pytun, "TunTapDevice", PaperDevice)
    device = tun.open_tun("tailnet0")
    assert (device.vnet_hdr, device.uso) == (False, False)
    assert PaperDevice.opened == [0x5001, 0x1001]
    fd = device.detach()
    assert not os.get_inheritable(fd)
    os.close(fd)
