"""The operating system that this runs on."""

import sys

from tailnet.platform.interface import PlatformError
from tailnet.platform.system import Platform


def this_platform(name: str = sys.platform) -> Platform:
    """Its ports.

    Raises:
        PlatformError: there are none for it.
    """
    if name == "linux":
        from tailnet.platform.linux.system import Linux  # noqa: PLC0415 - imports Linux alone has

        return Linux()
    msg = f"tailnetd runs on Linux; its ports to {name} are not written"
    raise PlatformError(msg)
