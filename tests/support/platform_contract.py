"""What every implementation of a platform port keeps, real or fake."""

import asyncio
import os
import socket
from abc import ABC, abstractmethod
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tailnet.platform.interface import (
    NO_DNS,
    Bypass,
    DnsConfig,
    DnsConfigurator,
    ExitGuard,
    Firewall,
    FirewallConfig,
    Guard,
    NetfilterMode,
    PlatformError,
    Router,
    RouterConfig,
    TunDevice,
)

EMPTY = RouterConfig()
NODE = RouterConfig(
    local_addrs=frozenset({ip_interface("100.64.0.1/32"), ip_interface("fd7a:115c:a1e0::1/128")}),
    routes=frozenset({ip_network("100.64.0.2/32"), ip_network("fd7a:115c:a1e0::/48")}),
)
RENUMBERED = RouterConfig(
    local_addrs=frozenset({ip_interface("100.64.0.9/32"), ip_interface("fd7a:115c:a1e0::9/128")}),
    routes=NODE.routes,
)
IPV6_ONLY = RouterConfig(
    local_addrs=frozenset({ip_interface("fd7a:115c:a1e0::1/128")}), routes=NODE.routes
)
EXIT_NODE = RouterConfig(
    local_addrs=NODE.local_addrs,
    routes=NODE.routes | {ip_network("0.0.0.0/0"), ip_network("::/0"), ip_network("10.1.0.0/16")},
)
EXIT_NODE_WITH_LAN = RouterConfig(
    local_addrs=NODE.local_addrs,
    routes=NODE.routes | {ip_network("0.0.0.0/0"), ip_network("::/0")},
    local_routes=frozenset({ip_network("10.1.0.0/16"), ip_network("2001:db8::/64")}),
)
CONFIGS = [NODE, RENUMBERED, EXIT_NODE, EXIT_NODE_WITH_LAN, IPV6_ONLY, EMPTY]

QUAD = ip_address("100.100.100.100")
ALL_NAMES = DnsConfig(nameservers=(QUAD,), search=("tail.ts.net", "corp.example"))
SOME_NAMES = DnsConfig(nameservers=(QUAD,), search=("tail.ts.net",), match=("tail.ts.net", "corp"))
TWO_SERVERS = DnsConfig(nameservers=(QUAD, ip_address("fd7a:115c:a1e0::53")))
ONLY_SEARCH = DnsConfig(search=("corp.example",))
DNS_CONFIGS = [ALL_NAMES, SOME_NAMES, TWO_SERVERS, ONLY_SEARCH, NO_DNS]


class DnsContract(ABC):
    """Subclasses give the fixture ``dns`` and say what is in force."""

    @abstractmethod
    def in_force(self, dns: DnsConfigurator) -> object:
        """What the host does now, found out without the configurator; equal if it is the same."""

    @pytest.mark.parametrize("config", DNS_CONFIGS)
    async def test_down_restores(self, dns: DnsConfigurator, config: DnsConfig) -> None:
        """From any configuration; and may be called again, and without ``up``."""
        await dns.down()
        before = self.in_force(dns)
        await dns.up()
        assert self.in_force(dns) == before
        await dns.apply(_possible(dns, config))
        assert (self.in_force(dns) == before) == (config == NO_DNS)
        await dns.down()
        await dns.down()
        assert self.in_force(dns) == before

    @pytest.mark.parametrize("after", DNS_CONFIGS)
    @pytest.mark.parametrize("before", DNS_CONFIGS)
    async def test_the_past_leaves_no_trace(
        self, dns: DnsConfigurator, before: DnsConfig, after: DnsConfig
    ) -> None:
        """The same as if ``after`` had come first; also if it comes twice."""
        await dns.up()
        await dns.apply(_possible(dns, after))
        wanted = self.in_force(dns)
        await dns.down()
        await dns.up()
        for config in (before, after, after):
            await dns.apply(_possible(dns, config))
        assert self.in_force(dns) == wanted

    async def test_no_dns_restores(self, dns: DnsConfigurator) -> None:
        """Applying it is as good as never having been here."""
        before = self.in_force(dns)
        await dns.up()
        await dns.apply(_possible(dns, ALL_NAMES))
        await dns.apply(NO_DNS)
        assert self.in_force(dns) == before

    async def test_base_does_not_depend_on_what_is_applied(self, dns: DnsConfigurator) -> None:
        """Else names would go in circles."""
        await dns.up()
        base = await dns.base()
        await dns.apply(_possible(dns, ALL_NAMES))
        assert await dns.base() == base
        assert base is None or QUAD not in base.nameservers

    async def test_up_takes_back_what_a_dead_daemon_left(self, dns: DnsConfigurator) -> None:
        """Whatever was applied."""
        before = self.in_force(dns)
        await dns.up()
        await dns.apply(_possible(dns, ALL_NAMES))
        await dns.up()
        assert self.in_force(dns) == before

    async def test_some_names_need_split(self, dns: DnsConfigurator) -> None:
        """A host that cannot do it refuses, and nothing changes."""
        await dns.up()
        if dns.split:
            await dns.apply(SOME_NAMES)
            return
        before = self.in_force(dns)
        with pytest.raises(PlatformError, match="cannot send only some names"):
            await dns.apply(SOME_NAMES)
        assert self.in_force(dns) == before


def _possible(dns: DnsConfigurator, config: DnsConfig) -> DnsConfig:
    return config if dns.split else DnsConfig(config.nameservers, config.search)


class RouterContract(ABC):
    """Subclasses give the fixture ``router`` and say what is in force."""

    @abstractmethod
    def in_force(self, router: Router) -> RouterConfig:
        """What the system does now, found out without the router."""

    @pytest.mark.parametrize("config", CONFIGS)
    async def test_what_is_applied_is_in_force(self, router: Router, config: RouterConfig) -> None:
        """Addresses, routes, exceptions."""
        await router.up()
        await router.apply(config)
        assert self.in_force(router) == config

    @pytest.mark.parametrize("after", CONFIGS)
    @pytest.mark.parametrize("before", CONFIGS)
    async def test_the_past_leaves_no_trace(
        self, router: Router, before: RouterConfig, after: RouterConfig
    ) -> None:
        """From any configuration to any other."""
        await router.up()
        await router.apply(before)
        await router.apply(after)
        assert self.in_force(router) == after

    async def test_applying_twice_changes_nothing(self, router: Router) -> None:
        """The second time finds everything done."""
        await router.up()
        await router.apply(EXIT_NODE)
        await router.apply(EXIT_NODE)
        assert self.in_force(router) == EXIT_NODE

    async def test_up_starts_from_nothing(self, router: Router) -> None:
        """Whatever was in force before."""
        await router.up()
        await router.apply(EXIT_NODE_WITH_LAN)
        await router.up()
        assert self.in_force(router) == EMPTY

    async def test_down_removes_everything(self, router: Router) -> None:
        """And may be called again, and before ``up``."""
        await router.down()
        await router.up()
        await router.apply(EXIT_NODE_WITH_LAN)
        await router.down()
        await router.down()
        assert self.in_force(router) == EMPTY


RULES = FirewallConfig(
    addrs=frozenset({ip_address("100.64.0.1"), ip_address("fd7a:115c:a1e0::1")}),
    ports=frozenset({41641}),
    stateful=True,
)
NO_RULES = FirewallConfig(mode=NetfilterMode.OFF)
EXIT_GUARDED = replace(RULES, exit_guard=ExitGuard(lan=True))
GUARDED = replace(NO_RULES, guard=Guard(frozenset({ip_network("10.1.0.0/16")})))
FIREWALLS = [RULES, replace(RULES, snat=False, cgnat_drop=False), replace(RULES, guard=Guard())]
UNDIVERTED = replace(RULES, mode=NetfilterMode.NODIVERT)
FIREWALLS += [GUARDED, NO_RULES, UNDIVERTED, EXIT_GUARDED]


class FirewallContract(ABC):
    """Subclasses give the fixture ``firewall``; say what is in force, and disturb it."""

    @abstractmethod
    def in_force(self, firewall: Firewall) -> object:
        """What the system does now, in a form that can be compared."""

    @abstractmethod
    def flush(self, firewall: Firewall) -> None:
        """Remove all rules, as another program would."""

    @pytest.mark.parametrize("after", FIREWALLS)
    @pytest.mark.parametrize("before", FIREWALLS)
    async def test_the_past_leaves_no_trace(
        self, firewall: Firewall, before: FirewallConfig, after: FirewallConfig
    ) -> None:
        """From any configuration to any other."""
        await firewall.apply(after)
        fresh = self.in_force(firewall)
        await firewall.apply(before)
        await firewall.apply(after)
        assert self.in_force(firewall) == fresh

    async def test_down_removes_everything_but_the_guard(self, firewall: Firewall) -> None:
        """Before ``apply`` and twice, too."""
        await firewall.down()
        empty = self.in_force(firewall)
        await firewall.apply(RULES)
        assert self.in_force(firewall) != empty
        await firewall.down()
        await firewall.down()
        assert self.in_force(firewall) == empty
        await firewall.apply(GUARDED)
        guarded = self.in_force(firewall)
        await firewall.apply(replace(RULES, guard=GUARDED.guard))
        await firewall.down()
        assert self.in_force(firewall) == guarded
        await firewall.apply(replace(EXIT_GUARDED, guard=GUARDED.guard))
        await firewall.down(leak_guard=True)
        assert self.in_force(firewall) != guarded
        await firewall.down()
        assert self.in_force(firewall) == guarded

    @pytest.mark.parametrize("config", [RULES, GUARDED, UNDIVERTED, EXIT_GUARDED])
    async def test_what_others_do_is_heard_and_seen(
        self, firewall: Firewall, config: FirewallConfig
    ) -> None:
        """And the same configuration again repairs it."""
        await firewall.apply(config)
        assert await firewall.intact()
        heard = firewall.disturbances()
        waiting = asyncio.ensure_future(anext(heard))
        await asyncio.sleep(0)  # it listens from here on
        self.flush(firewall)
        await asyncio.wait_for(waiting, 5)
        assert not await firewall.intact()
        await firewall.apply(config)
        assert await firewall.intact()


class TunContract:
    """Subclasses give the fixture ``tun``."""

    def test_says_what_it_is(self, tun: TunDevice) -> None:
        """Name, MTU, offloads."""
        assert tun.name
        assert tun.mtu == 1280
        assert tun.vnet_hdr or not tun.uso

    def test_descriptor_is_not_blocking_and_outlives_the_object(self, tun: TunDevice) -> None:
        """It belongs to whoever took it."""
        fd = tun.detach()
        try:
            tun.close()
            assert not os.get_blocking(fd)
            assert not os.get_inheritable(fd)
        finally:
            os.close(fd)

    def test_descriptor_is_given_once(self, tun: TunDevice) -> None:
        """The second time fails."""
        os.close(tun.detach())
        with pytest.raises(PlatformError, match="closed"):
            tun.detach()

    def test_closing_twice_does_nothing(self, tun: TunDevice) -> None:
        """Idempotent."""
        tun.close()
        tun.close()
        with pytest.raises(PlatformError, match="closed"):
            tun.detach()


class BypassContract(ABC):
    """Subclasses give the fixture ``bypass`` and say whether a socket is kept out."""

    @abstractmethod
    def is_kept_out(self, bypass: Bypass, sock: socket.socket) -> bool:
        """Whether packets of this socket stay out of the tunnel."""

    @pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
    @pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
    def test_marked_socket_is_kept_out(
        self, bypass: Bypass, family: socket.AddressFamily, kind: socket.SocketKind
    ) -> None:
        """Of any family and kind."""
        with socket.socket(family, kind) as sock:
            assert not self.is_kept_out(bypass, sock)
            bypass.mark(sock)
            assert self.is_kept_out(bypass, sock)

    def test_other_sockets_are_left_alone(self, bypass: Bypass) -> None:
        """A unix socket has no packets."""
        with socket.socket(socket.AF_UNIX) as sock:
            bypass.mark(sock)
            assert not self.is_kept_out(bypass, sock)
