"""Capabilities."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailnet.platform.linux.privileges import (
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    Privileges,
    own_privileges,
    parse_status,
)


def test_effective_set_is_read() -> None:
    """And no other."""
    text = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000001000\nCapBnd:\tff\n"
    privileges = Privileges(1000, parse_status(text))
    assert privileges.has(CAP_NET_ADMIN)
    assert not privileges.has(CAP_NET_RAW)
    assert privileges.missing_for_tun is None


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    """What is not there is not held."""
    assert parse_status(text) >= 0 or "CapEff" in text


@pytest.mark.parametrize(("uid", "hint"), [(0, "--cap-add NET_ADMIN"), (1000, "run it as root")])
def test_remedy_is_told(uid: int, hint: str) -> None:
    """Another one to root, who is in a container."""
    told = Privileges(uid, 0).missing_for_tun
    assert told is not None
    assert hint in told


def test_own_are_read(tmp_path: Path) -> None:
    """From the kernel, or guessed where there is no /proc."""
    (tmp_path / "status").write_text("CapEff:\t0000000000003000\n")
    assert own_privileges(tmp_path / "status").capabilities == 0x3000
    without = own_privileges(tmp_path / "nothing")
    assert without.tun == (without.uid == 0)
