"""What is to pass by an exit node, as the host is now: for its guard."""

from socket import AF_INET, AF_INET6

from tailnet.platform.interface import ExitGuard, PlatformError
from tailnet.platform.linux.hostinfo import local_networks
from tailnet.platform.linux.netlink import open_netlink
from tailnet.platform.linux.nft.guard import Around
from tailnet.platform.linux.rtnetlink import AsyncIPRoute, NetlinkError
from tailnet.platform.linux.rules import detours


async def read_around(tun: str, guard: ExitGuard) -> Around:
    """Look at links and rules.

    Raises:
        PlatformError: the kernel does not say.
    """
    nets = local_networks(without=tun) if guard.lan else ()
    near = frozenset(n for n in nets if n.prefixlen < n.max_prefixlen and not n.is_loopback)
    async with open_netlink() as kernel:
        found = [rule for f in (AF_INET, AF_INET6) for rule in await kernel.rules(f) or ()]
    return Around(near, await _bridges(), tuple(detours(found)))


async def _bridges() -> frozenset[str]:
    try:
        async with AsyncIPRoute() as ip:
            dump = await ip.link("dump", kind="bridge")
            return frozenset([str(m.get_attr("IFLA_IFNAME")) async for m in dump])
    except (OSError, NetlinkError) as error:
        msg = f"cannot list the bridges of this host: {error}"
        raise PlatformError(msg) from error
