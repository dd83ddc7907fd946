"""pyroute2's rtnetlink, and of pyroute2 no more than that.

The package's ``__init__`` imports everything the library can do (nl80211, IPVS, a database over
SQLite): 5 MB, and a tenth of a second of each start.  Its parts do without, so the package
is entered here with a path and no content.  Whoever imported all of it before is not disturbed.
"""

import sys
from importlib.util import find_spec, module_from_spec


def _enter(package: str) -> None:
    if package not in sys.modules and (spec := find_spec(package)) is not None:
        sys.modules[package] = module_from_spec(spec)


_enter("pyroute2")

from pyroute2.iproute.linux import AsyncIPRoute  # noqa: E402
from pyroute2.netlink.exceptions import NetlinkError  # noqa: E402

__all__ = ["AsyncIPRoute", "NetlinkError"]
