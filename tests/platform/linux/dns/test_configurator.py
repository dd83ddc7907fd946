"""The port on a host without a bus, that is a directory."""

import asyncio
from collections.abc import AsyncGenerator
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import pytest
from tests.support.dns import KINDS, look, make
from tests.support.platform_contract import ALL_NAMES, DnsContract

from tailnet.platform.interface import DnsConfigurator, DnsEvent
from tailnet.platform.linux.dns.configurator import LinuxDns
from tailnet.platform.linux.dns.fight import MOST
from tailnet.platform.linux.dns.restore import cleanup


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bus, no programs."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus")
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.fixture(params=KINDS)
def dns(request: pytest.FixtureRequest, tmp_path: Path) -> DnsConfigurator:
    """Of every kind of host."""
    make(tmp_path, request.param)
    return LinuxDns("tun0", root=tmp_path)


class TestDirect(DnsContract):
    """The file is replaced."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        """Where to look."""
        self.root = tmp_path

    def in_force(self, dns: DnsConfigurator) -> object:
        """What is there; when our own file was written does not matter."""
        found = look(self.root)
        if "resolv.conf.before-tailnetd" not in found and "tailnetd" not in str(found):
            return found
        return {name: cast("tuple[object, ...]", what)[1::2] for name, what in found.items()}


async def test_cleanup_says_what_it_does(dns: DnsConfigurator, tmp_path: Path) -> None:
    """And twice does nothing."""
    before = look(tmp_path)
    await dns.up()
    await dns.apply(ALL_NAMES)
    assert await cleanup(tmp_path) == [f"restored {tmp_path}/etc/resolv.conf"]
    assert look(tmp_path) == before
    assert await cleanup(tmp_path) == []


async def test_what_others_write_is_told_and_becomes_the_base(
    dns: DnsConfigurator, tmp_path: Path
) -> None:
    """As when a DHCP client has a new lease; and what we write is not told."""
    file = tmp_path / "etc/resolv.conf"
    await dns.up()
    events = cast("AsyncGenerator[DnsEvent]", dns.events())
    told = asyncio.create_task(anext(events))
    await dns.apply(ALL_NAMES)
    fresh = file.with_name("fresh")
    fresh.write_text("nameserver 10.9.9.9\n")
    fresh.replace(file)
    event = await told
    assert event.again
    assert "another program" in event.reason
    base = await dns.base()
    assert base is not None
    assert base.nameservers == (ip_address("10.9.9.9"),)
    await events.aclose()


async def test_a_fight_is_given_up_and_told(tmp_path: Path) -> None:
    """Nine repairs, whatever the other does; then a warning."""
    make(tmp_path, "file")
    dns = LinuxDns("tun0", root=tmp_path, now=lambda: 0.0)
    file = tmp_path / "etc/resolv.conf"
    await dns.up()
    await dns.apply(ALL_NAMES)
    events = cast("AsyncGenerator[DnsEvent]", dns.events())
    repairs, trouble = 0, ""
    told = asyncio.create_task(anext(events))
    await asyncio.sleep(0)
    for number in range(MOST + 1):
        file.write_text(f"nameserver 10.0.0.{number}\n")
        event = await told
        told = asyncio.create_task(anext(events))
        repairs, trouble = repairs + event.again, event.overwritten
        if event.again:
            await dns.apply(ALL_NAMES)
    told.cancel()
    await asyncio.gather(told, return_exceptions=True)
    assert repairs == MOST
    assert "keeps replacing" in trouble
    assert file.read_text() == f"nameserver 10.0.0.{MOST}\n"
    await events.aclose()
