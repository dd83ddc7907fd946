"""What was tried out on request.

Source: tailscale ipn/ipnstate/ipnstate.go, DebugDERPRegionReport; wgengine/magicsock/endpoint.go,
EndpointChange.
"""

from datetime import datetime
from typing import NamedTuple

from msgspec import UNSET, Struct, UnsetType, field

from tailnet.agent.localapi.schema.basics import ZERO_TIME


class RegionReport(Struct, frozen=True, kw_only=True, rename="pascal"):
    """``POST debug-derp-region``: sentences."""

    info: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class EndpointChange(Struct, frozen=True, kw_only=True):
    """``GET debug-peer-endpoint-changes``: the way to a peer became ``to``, because of ``what``."""

    when: datetime = field(default=ZERO_TIME, name="When")
    what: str = field(default="", name="What")
    from_: str | UnsetType = field(default=UNSET, name="From")
    to: str = field(default="", name="To")


class MarkInUse(Struct, frozen=True, kw_only=True):
    """``GET check-so-mark-in-use``."""

    use_so_mark: bool = field(default=False, name="UseSOMark")


class DialTry(NamedTuple):
    """One way to connect; ``error`` is empty if it worked."""

    way: str
    error: str
