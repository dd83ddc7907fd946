"""systemd-resolved: settings of the tunnel's link, which go with the link.

Source: org.freedesktop.resolve1(5); tailscale net/dns/resolved.go.
"""

import contextlib
import logging
import socket

from tailnet.platform.interface import NO_DNS, DnsConfig, PlatformError
from tailnet.platform.linux.dns.bus import Bus, open_bus
from tailnet.platform.linux.dns.errors import BusError
from tailnet.platform.linux.dns.facts import RESOLVED

log = logging.getLogger("tailnet.platform")

_PATH, _MANAGER = "/org/freedesktop/resolve1", "org.freedesktop.resolve1.Manager"
_TOO_LONG = "Argument list too long"
_NO_LINK = "org.freedesktop.resolve1.NoSuchLink"
_OFF = ("SetLinkLLMNR", "SetLinkMulticastDNS", "SetLinkDNSSEC", "SetLinkDNSOverTLS")

Domains = tuple[tuple[str, bool], ...]  # name, true: only for routing questions


class Resolved:
    """Told by D-Bus, every time over a new connection."""

    split = True

    def __init__(self, tun_name: str) -> None:
        self._tun = tun_name

    async def base(self) -> DnsConfig | None:
        """It is not known which of its resolvers it would ask."""
        return None

    async def apply(self, config: DnsConfig) -> None:
        """See ``DnsConfigurator``."""
        if config == NO_DNS:
            await self.down()
            return
        try:
            index = socket.if_nametoindex(self._tun)
        except OSError:
            line = f"there is no interface {self._tun} that systemd-resolved could be told of"
            raise PlatformError(line) from None
        async with open_bus() as bus:
            try:
                await _tell(bus, index, config)
            except PlatformError:  # half of it could send names into nowhere
                with contextlib.suppress(PlatformError):
                    await _call(bus, "RevertLink", "i", index)
                raise

    async def down(self) -> None:
        """See ``DnsConfigurator``."""
        try:
            index = socket.if_nametoindex(self._tun)
        except OSError:
            return  # its settings went with it
        async with open_bus() as bus:
            try:
                await _call(bus, "RevertLink", "i", index)
            except BusError as error:
                if error.name != _NO_LINK:
                    raise


def domains(config: DnsConfig) -> Domains:
    """What the link is good for: names to complete short ones with, then suffixes of questions."""
    search = [(name, False) for name in config.search]
    suffixes = config.match or (("",) if config.nameservers else ())
    routes = [(name or ".", True) for name in suffixes if name not in config.search]
    return (*search, *routes)


async def _tell(bus: Bus, index: int, config: DnsConfig) -> None:
    families = {4: socket.AF_INET, 6: socket.AF_INET6}
    servers = [[int(families[ip.version]), ip.packed] for ip in config.nameservers]
    await _call(bus, "SetLinkDNS", "ia(iay)", index, servers)
    wanted = [list(pair) for pair in domains(config)]
    try:
        await _call(bus, "SetLinkDomains", "ia(sb)", index, wanted)
    except BusError as error:
        if _TOO_LONG not in str(error):
            raise
        fewer = [pair for pair in wanted if not str(pair[0]).endswith(".arpa")]
        log.info("DNS: systemd-resolved takes no names of addresses, there are too many suffixes")
        await _call(bus, "SetLinkDomains", "ia(sb)", index, fewer)
    all_names = bool(config.nameservers) and not config.match
    with contextlib.suppress(BusError):  # older than systemd 240
        await _call(bus, "SetLinkDefaultRoute", "ib", index, all_names)
    for member in _OFF:  # our resolver speaks none of these
        with contextlib.suppress(BusError):
            await _call(bus, member, "is", index, "no")
    with contextlib.suppress(PlatformError):  # old answers end by themselves: not worth a retry
        await _call(bus, "FlushCaches", "")


async def _call(bus: Bus, member: str, signature: str, *body: object) -> None:
    await bus.call(RESOLVED, _PATH, _MANAGER, member, signature, body)
