"""Settings of the kernel that the tunnel depends on, in the namespace of the calling thread.

``src_valid_mark``: the reverse path filter looks up answers by their mark as well, so answers to
the daemon's own packets are not taken for spoofed because the tunnel has the default route.

Source: Linux Documentation/networking/ip-sysctl.rst.
"""

import logging
from pathlib import Path

log = logging.getLogger("tailnet.platform")

IPV4 = Path("/proc/sys/net/ipv4/conf")


def marks_count(root: Path = IPV4) -> bool:
    """``src_valid_mark`` is on, or does not exist."""
    try:
        return (root / "all/src_valid_mark").read_text().strip() != "0"
    except OSError:
        return True


def make_marks_count(*, yes: bool, root: Path = IPV4) -> None:
    """Set ``src_valid_mark``; what forbids it is logged, for it matters to few hosts."""
    try:
        (root / "all/src_valid_mark").write_text("1" if yes else "0")
    except OSError as error:
        log.warning("net.ipv4.conf.all.src_valid_mark cannot be set: %s", error.strerror)
