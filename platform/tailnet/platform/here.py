"""The operating system that this runs on."""

import sys

from tailnet.platform.interface import PlatformError
from tailnet.platform.system import Platform

NAMES = {"darwin": "macOS", "win32": "Windows"}


def this_platform(name: str = sys.platform) -> Platform:
    """Its ports.

    Raises:
        PlatformError: there are none for it.
    """
    if name == "linux":
        from tailnet.platform.linux.system import Linux  # noqa: PLC0415 - imports Linux alone has

        return Linux()
    msg = (
        f"tailnetd does not run on {NAMES.get(name, name)} yet: nothing behind its ports is "
        "written there (docs/ports.md says what there would have to be)"
    )
    raise PlatformError(msg)
