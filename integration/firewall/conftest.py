"""Fixtures of the firewall's tests."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest
from integration.firewall.network import OWN, OWN6, PORT, TUN, Network, network

from tailnet.platform.interface import FirewallConfig, NetfilterMode
from tailnet.platform.linux.nft.firewall import LinuxFirewall

WALL = FirewallConfig(
    addrs=frozenset({ip_address(OWN), ip_address(OWN6)}), ports=frozenset({PORT}), stateful=True
)


class Daemon:
    """As the daemon uses the firewall; each call in a loop of its own."""

    def __init__(self) -> None:
        self.wall = LinuxFirewall(TUN)

    def apply(self, config: FirewallConfig = WALL) -> None:
        """Have these rules."""
        asyncio.run(self.wall.apply(config))

    def switch(self, mode: NetfilterMode, **changes: bool) -> None:
        """The usual rules in this mode."""
        self.apply(replace(WALL, mode=mode, **changes))  # type: ignore[arg-type]

    def intact(self) -> bool:
        """As the watch asks."""
        return asyncio.run(self.wall.intact())

    def down(self, *, leak_guard: bool = False) -> None:
        """The end."""
        asyncio.run(self.wall.down(leak_guard=leak_guard))


@pytest.fixture
def daemon() -> Daemon:
    """A new one."""
    return Daemon()


@pytest.fixture
def net() -> Iterator[Network]:
    """A router with a peer and a subnet."""
    with network() as made:
        yield made
