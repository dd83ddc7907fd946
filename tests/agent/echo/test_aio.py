"""Pings of this machine by itself, through the real kernel."""

import os
from ipaddress import ip_address

import pytest

from tailnet.agent import clock
from tailnet.agent.echo.aio import echo


@pytest.mark.parametrize(("address", "other"), [("127.0.0.1", "127.0.0.2"), ("::1", "::1")])
async def test_loopback_answers(address: str, other: str) -> None:
    """Within the time."""
    src, dst = ip_address(address), ip_address(other)
    try:
        took = await echo(src, dst, 5.0, now=clock.now, random_bytes=os.urandom)
    except OSError as error:
        if src.version == 4 and not isinstance(error, PermissionError):
            raise
        pytest.skip(f"this process may not ping, or there is no IPv6: {error}")
    assert took is not None
    assert took >= 0
