"""Where the host's packets leave: asked of the kernel as a lookup, so that all its rules count.

Source: tailscale net/netmon/interfaces_linux.go likelyHomeRouterIP, which reads /proc/net/route.
"""

import errno
import logging
from ipaddress import IPv4Address
from socket import AF_INET

from tailnet.platform.interface import Gateway
from tailnet.platform.linux.constants import BYPASS_MARK
from tailnet.platform.linux.rtnetlink import AsyncIPRoute, NetlinkError

log = logging.getLogger("tailnet.platform")

_FAR = "8.8.8.8"  # anywhere outside; nothing is sent
_NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL}


class LinuxGateways:
    """A ``Gateways`` of the network namespace of the calling thread."""

    async def gateway(self) -> Gateway | None:
        """See ``Gateways``."""
        try:
            async with AsyncIPRoute() as ip:
                found = await ip.route("get", family=AF_INET, dst=_FAR, mark=BYPASS_MARK)
        except NetlinkError as error:
            if error.code not in _NO_WAY:
                log.warning("cannot ask for the default route: %s", error)
            return None
        except OSError as error:
            log.warning("cannot ask for the default route: %s", error)
            return None
        if not found:
            return None
        via, own = (found[0].get_attr(name) for name in ("RTA_GATEWAY", "RTA_PREFSRC"))
        return Gateway(IPv4Address(via), IPv4Address(own)) if via and own else None
