"""The doubles keep the contract of what they stand for."""

import os
import socket
from collections.abc import Iterator

import pytest
from tests.support.platform_contract import (
    NODE,
    BypassContract,
    DnsContract,
    FirewallContract,
    RouterContract,
    TunContract,
)

from tailnet.platform.fake import FakeBypass, FakeDns, FakeFirewall, FakeRouter, FakeTun
from tailnet.platform.interface import (
    Bypass,
    DnsConfigurator,
    Firewall,
    PlatformError,
    Router,
    RouterConfig,
    TunDevice,
)


class TestFakeRouter(RouterContract):
    """In memory."""

    @pytest.fixture
    def router(self) -> Router:
        """A new one."""
        return FakeRouter()

    def in_force(self, router: Router) -> RouterConfig:
        """It says so itself."""
        assert isinstance(router, FakeRouter)
        return router.config

    async def test_fails_when_asked_to(self) -> None:
        """Once, and without effect."""
        router = FakeRouter()
        await router.up()
        router.fail_next = PlatformError("no")
        with pytest.raises(PlatformError, match="no"):
            await router.apply(NODE)
        assert router.config == RouterConfig()
        await router.apply(NODE)
        assert router.history == [NODE]

    async def test_applying_before_up_fails(self) -> None:
        """The real one has no device then."""
        with pytest.raises(PlatformError, match="not up"):
            await FakeRouter().apply(NODE)


class TestFakeFirewall(FirewallContract):
    """In memory."""

    @pytest.fixture
    def firewall(self) -> Firewall:
        """A new one."""
        return FakeFirewall()

    def in_force(self, firewall: Firewall) -> object:
        """It says so itself."""
        assert isinstance(firewall, FakeFirewall)
        return firewall.config

    def flush(self, firewall: Firewall) -> None:
        """It can be told."""
        assert isinstance(firewall, FakeFirewall)
        firewall.disturb()


class TestFakeTun(TunContract):
    """A pair of sockets."""

    @pytest.fixture
    def tun(self) -> Iterator[TunDevice]:
        """A new one."""
        tun = FakeTun()
        yield tun
        tun.close()

    def test_packets_keep_their_bounds(self) -> None:
        """Two packets are two reads, in both directions."""
        tun = FakeTun()
        fd = tun.detach()
        try:
            tun.far.send(b"one")
            tun.far.send(b"two")
            assert [os.read(fd, 2000), os.read(fd, 2000)] == [b"one", b"two"]
            os.write(fd, b"back")
            assert tun.far.recv(2000) == b"back"
        finally:
            os.close(fd)
            tun.close()


class TestFakeBypass(BypassContract):
    """Remembers."""

    @pytest.fixture
    def bypass(self) -> Bypass:
        """A new one."""
        return FakeBypass()

    def is_kept_out(self, bypass: Bypass, sock: socket.socket) -> bool:
        """It says so itself."""
        assert isinstance(bypass, FakeBypass)
        return sock.fileno() in bypass.marked


class TestFakeDns(DnsContract):
    """In memory."""

    @pytest.fixture(params=[False, True], ids=["all", "split"])
    def dns(self, request: pytest.FixtureRequest) -> DnsConfigurator:
        """A new one."""
        return FakeDns(split=request.param)

    def in_force(self, dns: DnsConfigurator) -> object:
        """It says so itself."""
        assert isinstance(dns, FakeDns)
        return dns.config
