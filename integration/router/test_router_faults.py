"""Each request to the kernel fails once: what was wished is had in the end, and nothing is left."""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from unittest.mock import patch

import pytest
from integration.router.faults import Faults, Loss
from integration.router.kernel import TUN, until_local
from tests.support.platform_contract import EXIT_NODE_WITH_LAN, NODE
from tests.support.platform_netns import ip

from tailnet.agent.backend.host import aio as host_module
from tailnet.agent.backend.host.aio import HostNetwork
from tailnet.platform.interface import (
    ExitGuard,
    FirewallConfig,
    Guard,
    NetfilterMode,
    PlatformError,
    RouterConfig,
)
from tailnet.platform.linux.nft.firewall import LinuxFirewall, remove
from tailnet.platform.linux.router import LinuxRouter
from tailnet.platform.linux.tun import open_tun

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

WALL = FirewallConfig(
    addrs=frozenset({ip_address("100.64.0.1"), ip_address("fd7a:115c:a1e0::1")}),
    ports=frozenset({41641}),
)


@dataclass(frozen=True)
class Feature:
    """What a user may wish, in this room's terms."""

    routes: RouterConfig
    rules: FirewallConfig = WALL


SUBNET = NODE.routes | {ip_network("192.0.2.0/24"), ip_network("10.77.0.0/24")}
FEATURES = {
    "exit node, LAN access": Feature(
        replace(EXIT_NODE_WITH_LAN, leak_guard=True, lan_direct=True),
        replace(WALL, exit_guard=ExitGuard(lan=True)),
    ),
    "accept-routes": Feature(RouterConfig(NODE.local_addrs, SUBNET, lan_direct=True)),
    "advertised, SNAT off": Feature(NODE, replace(WALL, snat=False, stateful=True)),
    # Neither says more to the kernel than what every node has: masquerading stands by.
    "exit node offered, shields up": Feature(NODE),
    "kill switch": Feature(NODE, replace(WALL, guard=Guard(frozenset({ip_network("10.0.0.0/8")})))),
    "firewall off": Feature(NODE, replace(WALL, mode=NetfilterMode.OFF)),
    "nodivert": Feature(NODE, replace(WALL, mode=NetfilterMode.NODIVERT, stateful=True)),
}


PARTS = 3  # of the requests of one feature, or one test would take a minute and more
CASES = [(name, Loss.UNHEARD) for name in FEATURES]
CASES += [(name, Loss.UNANSWERED) for name in ("exit node, LAN access", "accept-routes")]


def everything() -> str:
    """Links, addresses, routes, rules, firewall, settings of the namespace."""
    ask = "rule show\nroute show table all\naddress show\n"
    views = [said("ip", family, "-d", "-batch", "-", feed=ask) for family in ("-4", "-6")]
    settings = [
        f"{path}={path.read_text().strip()}"
        for path in sorted(Path("/proc/sys/net/ipv4/conf/all").iterdir())
    ]
    shown = "\n".join([*views, said("nft", "list", "ruleset"), *settings])
    # the device has another number each time
    return re.sub(r"^\d+: (?=tail)|packets \d+ bytes \d+", "…", shown, flags=re.MULTILINE)


def said(*words: str, feed: str = "") -> str:
    """What a program says."""
    done = subprocess.run(words, input=feed, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout


class Life:
    """A daemon's, as far as the host is concerned: from one device to the end of it."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.told: set[str] = set()  # what health would have shown
        self._changed = asyncio.Event()

    async def run(self, feature: Feature) -> str:
        """Begin, have the feature, end; what was there in between."""
        tun = open_tun(TUN)
        ip("link", "set", TUN, "addrgenmode", "none")  # or the kernel adds an address when it likes
        host = HostNetwork(
            LinuxRouter(TUN),
            LinuxFirewall(TUN),
            now=lambda: 0.0,
            on_change=self._changed.set,
            before_none=lambda: asyncio.sleep(0),
        )
        try:
            with self.faults.injected():
                try:
                    await host.open()
                except PlatformError as error:
                    self.told.add(str(error))  # the daemon ends with it, and is started again
                    await host.open()
                host.start()
                host.want(feature.routes, feature.rules)
                await self._in_force(host)
            until_local(feature.routes.local_addrs)
            during = everything()
            with self.faults.injected():
                await host.close()
        finally:
            tun.close()
        return during

    async def _in_force(self, host: HostNetwork) -> None:
        """Until the wish was carried out, after a refusal too."""
        async with asyncio.timeout(30):
            while not host.settled or host.routes.problem or host.rules.problem:
                self._changed.clear()
                self.told |= {host.routes.problem, host.rules.problem} - {""}
                await self._changed.wait()


@pytest.fixture
def soon() -> Iterator[None]:
    """A refused wish is tried again at once, not after seconds."""
    with patch.object(host_module, "RETRY", 0.0):
        yield


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(("name", "loss"), CASES)
def test_one_request_that_fails_changes_nothing_in_the_end(
    pristine: str, name: str, loss: Loss, part: int
) -> None:
    """Whichever it is, from the first one to the last one of the end; each third is of one part."""
    del pristine
    feature, before = FEATURES[name], everything()
    counting = Faults(0)
    wanted = asyncio.run(Life(counting).run(feature))
    ended = everything()
    asyncio.run(remove(guard=True))  # the only thing that outlives a daemon, as it shall
    assert everything() == before
    assert (ended == before) == (feature.rules.guard is None)
    assert counting.seen > 20
    for number in range(1 + part, counting.seen + 1, PARTS):
        life = Life(Faults(number, loss))
        assert asyncio.run(life.run(feature)) == wanted, f"request {number} {life.told}"
        assert life.faults.hit
        assert everything() == ended, f"request {number} {life.told}"
        assert not any("Traceback" in line or "\n" in line for line in life.told)
