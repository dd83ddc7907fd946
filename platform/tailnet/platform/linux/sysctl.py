"""Settings of the kernel that the tunnel depends on, in the namespace of the calling thread.

``src_valid_mark``: the reverse path filter looks up answers by their mark as well, so answers to
the daemon's own packets are not taken for spoofed because the tunnel has the default route.

Source: Linux Documentation/networking/ip-sysctl.rst.
"""

import errno
from pathlib import Path

from tailnet.platform.interface import PlatformError

IPV4 = Path("/proc/sys/net/ipv4/conf")
_FOR_GOOD = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT}


def marks_count(root: Path = IPV4) -> bool:
    """``src_valid_mark`` is on, or does not exist."""
    try:
        return (root / "all/src_valid_mark").read_text().strip() != "0"
    except OSError:
        return True


def make_marks_count(*, yes: bool, root: Path = IPV4) -> str:
    """Set ``src_valid_mark``.

    Returns:
        Empty, or why the host forbids that (a container without writable ``/proc/sys``) where it
        does not matter, having no strict filter.

    Raises:
        PlatformError: it matters, or it may work the next time.
    """
    try:
        (root / "all/src_valid_mark").write_text("1" if yes else "0")
    except OSError as error:
        line = f"net.ipv4.conf.all.src_valid_mark cannot be set: {error.strerror}"
        if error.errno in _FOR_GOOD and not (yes and filters_strictly(root)):
            return line
        if yes and filters_strictly(root):
            line += "; set it to 1 yourself, or net.ipv4.conf.*.rp_filter to 2, or answers get lost"
        raise PlatformError(line) from error
    return ""


def filters_strictly(root: Path = IPV4) -> bool:
    """Some device drops what does not come from where it would be answered to.

    Source: Linux Documentation/networking/ip-sysctl.rst: the larger one of ``all`` and the device.
    """

    def level(device: Path) -> str:
        try:
            return (device / "rp_filter").read_text().strip()
        except OSError:
            return "0"

    if level(root / "all") != "1":
        return level(root / "all") == "0" and any(level(device) == "1" for device in _devices(root))
    return any(level(device) != "2" for device in _devices(root))


def _devices(root: Path) -> list[Path]:
    try:
        return [path for path in root.iterdir() if path.name not in {"all", "default", "lo"}]
    except OSError:
        return []
