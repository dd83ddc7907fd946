"""Routes in the kernel, set by the router: ``python -m integration.bench.routes``.

In a namespace of its own, with a real device: N routes applied to an empty table, one of them
removed and added again many times, the same applied again with nothing to do, all removed.
"""

import argparse
import asyncio
import statistics
import sys
import time
from ipaddress import ip_interface, ip_network

from tests.support.platform_netns import ip, private_network

from tailnet.platform.interface import RouterConfig
from tailnet.platform.linux.router import LinuxRouter
from tailnet.platform.linux.tun import open_tun

TUN = "tailnet0"
CHANGES = 40
OWN = frozenset({ip_interface("100.64.0.1/32"), ip_interface("fd7a:115c:a1e0::1/128")})


async def timed(router: LinuxRouter, config: RouterConfig) -> tuple[float, float]:
    """Wall and CPU seconds of one ``apply``."""
    wall, cpu = time.perf_counter(), time.process_time()
    await router.apply(config)
    return time.perf_counter() - wall, time.process_time() - cpu


async def measure(count: int) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds by what was done; of one change the median."""
    many = frozenset(
        ip_network(f"100.{65 + (n >> 16)}.{n >> 8 & 255}.{n & 255}/32") for n in range(count)
    )
    one = ip_network("100.65.0.7/32")
    router = LinuxRouter(TUN)
    await router.up()
    everything, fewer = RouterConfig(OWN, many), RouterConfig(OWN, many - {one})
    found = {"set": await timed(router, everything)}
    changes = [
        await timed(router, config) for _ in range(CHANGES // 2) for config in (fewer, everything)
    ]
    walls, cpus = zip(*changes, strict=True)
    found["one change"] = (statistics.median(walls), statistics.median(cpus))
    found["again, nothing to do"] = await timed(router, everything)
    found["removed"] = await timed(router, RouterConfig(OWN))
    await router.down()
    return found


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m integration.bench.routes", description=__doc__)
    parser.add_argument("--routes", type=int, default=10_000, metavar="N")
    count = parser.parse_args().routes
    with private_network():
        ip("link", "set", "lo", "up")
        tun = open_tun(TUN)
        try:
            for what, (wall, cpu) in asyncio.run(measure(count)).items():
                sys.stdout.write(f"{what:22} {wall * 1000:7.1f} ms wall {cpu * 1000:7.1f} ms CPU\n")
        finally:
            tun.close()


if __name__ == "__main__":
    main()
