"""What this host does for others: whether the kernel and the sites forward, and how quickly."""

from collections.abc import Callable, Iterable
from ipaddress import ip_network

from tailnet.agent.addr import IPNetwork, is_site
from tailnet.agent.backend.tunnel.interface import Sites, System
from tailnet.platform.interface import PlatformError


class Forwarding:
    """Asks the system; changes nothing but what ``set_udp_gro`` says.

    Args:
        system: of the host.
        sites: what forwards to 4via6 sites.
        device: name of the tunnel's; empty while there is none.
    """

    def __init__(self, system: System, sites: Sites, device: Callable[[], str]) -> None:
        self._system = system
        self._sites = sites
        self._device = device

    def problem(self, routes: Iterable[str]) -> str:
        """Why these subnet routes do not work; empty if they do."""
        nets = [ip_network(route) for route in routes]
        v6 = {net.version == 6 for net in nets if not is_site(net)}  # the kernel sees no others
        problem = self._system.forwarding_problem(v4=False in v6, v6=True in v6) if v6 else ""
        return problem or (self._sites.problem if any(map(is_site, nets)) else "")

    def strict_filter(self) -> bool:
        """Answers that come by another way than they would be sent are dropped."""
        return self._system.strict_filter()

    def udp_gro_problem(self, uplink: str) -> str:
        """What makes UDP forwarded from this device slow; empty if nothing can be gained."""
        device = self._device()
        return self._system.udp_gro_problem(device, uplink) if device and uplink else ""

    def set_udp_gro(self, uplink: str) -> None:
        """Make UDP forwarded from this device quick.

        Raises:
            PlatformError: nothing can be gained, or the system refuses.
        """
        device = self._device()
        if not (device and uplink):
            msg = "there is no tunnel yet" if uplink else "there is no default route"
            raise PlatformError(msg)
        self._system.set_udp_gro(device, uplink)

    def links(self) -> tuple[IPNetwork, ...]:
        """The prefixes of this host's links, now."""
        return self._system.local_networks()
