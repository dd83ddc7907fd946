"""Whatever was wished before: the kernel ends as if the last wish had been the first.

More examples: ``FUZZ_EXAMPLES=5000 pytest --timeout=0 integration/router/test_router_random.py``.
"""

import asyncio
import os
from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integration.router.kernel import TUN, until_local
from tests.support.platform_netns import ip, snapshot

from tailnet.platform.interface import RouterConfig
from tailnet.platform.linux.router import LinuxRouter
from tailnet.platform.linux.tun import LinuxTun

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

ADDRS = [
    ip_interface(text)
    for text in ("100.64.0.1/32", "100.64.0.9/32", "10.5.5.5/32", "fd7a:115c:a1e0::1/128")
]
PREFIXES = [
    ip_network(text)
    for text in (
        "0.0.0.0/0",
        "::/0",
        "100.64.0.2/32",
        "100.64.0.3/32",
        "10.0.0.0/8",
        "192.0.2.0/24",  # the link's own
        "192.0.0.0/16",
        "fd7a:115c:a1e0::/48",
        "fd7a:115c:a1e0:b1a:0:7:a01:0/112",
        "2001:db8:1::/64",  # the link's own
    )
]
SOME = st.frozensets(st.sampled_from(PREFIXES))
CONFIGS = st.builds(
    RouterConfig,
    st.frozensets(st.sampled_from(ADDRS)),
    SOME,
    SOME,
    SOME,
    lan_direct=st.booleans(),
    leak_guard=st.booleans(),
)


@pytest.fixture
def quiet_tun(tun: LinuxTun) -> None:
    """Without the address that the kernel adds when it likes."""
    del tun
    ip("link", "set", TUN, "addrgenmode", "none")


async def end_of(history: list[RouterConfig], *, damage: bool = False) -> str:
    """Of all these wishes, in one life of a router; what the kernel has then."""
    router = LinuxRouter(TUN)
    await router.up()
    for config in history:
        await router.apply(config)
        if damage:
            ip("route", "flush", "table", "52")
            ip("address", "flush", "dev", TUN, "scope", "global")
    if damage:
        await router.apply(history[-1])
    until_local(history[-1].local_addrs)
    shown = snapshot()
    await router.down()
    # the order of addresses is that of their coming; a node has one of each family
    return "\n".join(" ".join(sorted(line.split())) for line in shown.splitlines())


@pytest.mark.usefixtures("quiet_tun")
@given(st.lists(CONFIGS, min_size=1, max_size=4), st.booleans())
@settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_last_wish_is_had_as_if_it_were_the_first(
    history: list[RouterConfig], damage: bool
) -> None:
    """Addresses, routes of all tables, rules; with another program's damage in between, too."""
    assert asyncio.run(end_of(history, damage=damage)) == asyncio.run(end_of(history[-1:]))


@pytest.mark.usefixtures("quiet_tun")
def test_nothing_is_left_of_many_wishes(pristine: str) -> None:
    """Of the sum of them."""
    ip("link", "set", TUN, "up")
    ip("link", "set", TUN, "down")
    everything = RouterConfig(frozenset(ADDRS), frozenset(PREFIXES), leak_guard=True)
    blocked = replace(everything, routes=frozenset(), blocked=frozenset(PREFIXES))
    asyncio.run(end_of([everything, blocked, replace(blocked, lan_direct=True)]))
    ip("link", "del", TUN)
    assert snapshot() == pristine
