"""systemd-resolved, as told by D-Bus calls."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from tailnet.platform.interface import DnsConfig, PlatformError
from tailnet.platform.linux.dns import resolved
from tailnet.platform.linux.dns.errors import BusError
from tailnet.platform.linux.dns.resolved import Resolved

CONFIG = DnsConfig(nameservers=(ip_address("100.100.100.100"),), search=("lab.ts.net",))


class OneFails:
    """A bus on which one call gets no answer, or a refusal."""

    def __init__(self, member: str, error: PlatformError) -> None:
        self.member, self.error = member, error
        self.called: list[str] = []
        self.told: dict[str, object] = {}

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[object] = (),
    ) -> list[Any]:
        """Fails if it is that one."""
        assert (destination, path) == ("org.freedesktop.resolve1", "/org/freedesktop/resolve1")
        assert interface
        assert bool(signature) == bool(body)
        self.called.append(member)
        self.told[member] = list(body)[1:]  # without the number of the link
        if member == self.member:
            raise self.error
        return []


async def called(
    monkeypatch: pytest.MonkeyPatch, bus: OneFails, config: DnsConfig = CONFIG
) -> list[str]:
    """What was called until the end."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[OneFails]:
        yield bus

    monkeypatch.setattr(resolved, "open_bus", opened)
    await Resolved("lo").apply(config)
    return bus.called


@pytest.mark.parametrize(
    ("match", "domains", "everything"),
    [
        ((), [["lab.ts.net", False], [".", True]], True),
        (("corp.example",), [["lab.ts.net", False], ["corp.example", True]], False),
        (("lab.ts.net",), [["lab.ts.net", False]], False),
    ],
    ids=["all names", "some", "those of the search domain"],
)
async def test_which_questions_are_sent_to_us(
    monkeypatch: pytest.MonkeyPatch,
    match: tuple[str, ...],
    domains: list[list[object]],
    *,
    everything: bool,
) -> None:
    """Of all names, or of these suffixes and no others, whatever other links have."""
    bus = OneFails("", SILENCE)
    await called(monkeypatch, bus, replace(CONFIG, match=match))
    assert bus.told["SetLinkDNS"] == [[[2, bytes((100, 100, 100, 100))]]]
    assert bus.told["SetLinkDomains"] == [domains]
    assert bus.told["SetLinkDefaultRoute"] == [everything]


SILENCE = PlatformError("no answer")
REFUSAL = BusError("org.freedesktop.DBus.Error.UnknownMethod", "no such method")


@pytest.mark.parametrize("error", [SILENCE, REFUSAL])
async def test_old_answers_that_may_stay_are_no_failure(
    monkeypatch: pytest.MonkeyPatch, error: PlatformError
) -> None:
    """They end by themselves, and everything else is done."""
    said = await called(monkeypatch, OneFails("FlushCaches", error))
    assert said[:2] == ["SetLinkDNS", "SetLinkDomains"]
    assert said[-1] == "FlushCaches"


@pytest.mark.parametrize("member", ["SetLinkDefaultRoute", "SetLinkDNSSEC", "SetLinkDNSOverTLS"])
async def test_what_names_are_not_answered_without_is_refused_or_tried_again(
    monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    """An old program has no such setting; a silent one may want TLS of us, so all is taken back."""
    said = await called(monkeypatch, OneFails(member, REFUSAL))
    assert said[-1] == "FlushCaches"
    bus = OneFails(member, SILENCE)
    with pytest.raises(PlatformError):
        await called(monkeypatch, bus)
    assert bus.called[-2:] == [member, "RevertLink"]
