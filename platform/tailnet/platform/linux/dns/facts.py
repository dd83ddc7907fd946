"""What is found on the host, for the choice."""

import logging
from pathlib import Path

from tailnet.platform.interface import PlatformError
from tailnet.platform.linux.dns.bus import Bus, open_bus
from tailnet.platform.linux.dns.choose import Facts, NetworkManager
from tailnet.platform.linux.dns.programs import flavour
from tailnet.platform.linux.dns.replaced import ResolvConfFile

log = logging.getLogger("tailnet.platform")

RESOLVED = "org.freedesktop.resolve1"
MANAGER = "org.freedesktop.NetworkManager"
_PEER = "org.freedesktop.DBus.Peer"
_PROPERTIES = "org.freedesktop.DBus.Properties"


async def observe(root: Path) -> Facts:
    """Look.  Asking for systemd-resolved also starts it, and lets it write the file first.

    Raises:
        PlatformError: a file is there and cannot be read.
    """
    resolved, manager = False, None
    try:
        async with open_bus() as bus:
            resolved = await _resolved(bus)
            manager = await _manager(bus)
    except PlatformError as error:
        log.debug("DNS: %s", error)
    return Facts(
        resolv_conf=ResolvConfFile(root).before(),
        hosts=_hosts(root / "etc/nsswitch.conf"),
        resolved=resolved,
        manager=manager,
        resolvconf=await flavour(),
    )


async def _resolved(bus: Bus) -> bool:
    try:
        await bus.call(RESOLVED, "/org/freedesktop/resolve1", _PEER, "Ping")
    except PlatformError as error:
        log.debug("DNS: %s", error)
        return False
    return True


async def _manager(bus: Bus) -> NetworkManager | None:
    path = "/org/freedesktop/NetworkManager"
    try:
        if not await bus.owned(MANAGER):
            return None
        (version,) = await bus.call(MANAGER, path, _PROPERTIES, "Get", "ss", [MANAGER, "Version"])
        about = [f"{MANAGER}.DnsManager", "Mode"]
        (dns,) = await bus.call(MANAGER, f"{path}/DnsManager", _PROPERTIES, "Get", "ss", about)
    except PlatformError as error:
        log.debug("DNS: %s", error)
        return None
    return NetworkManager(str(version.value), str(dns.value))


def _hosts(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    for line in lines:
        key, _, value = line.partition("#")[0].partition(":")
        if key.strip() == "hosts":
            return tuple(value.split())
    return ()
