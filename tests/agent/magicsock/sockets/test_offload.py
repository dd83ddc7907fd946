"""Kernels that get offloads wrong, and the switches."""

import pytest

from tailnet.agent.magicsock.sockets.offload import NO_GRO, NO_GSO, SENTINEL, Offload, choose


@pytest.mark.parametrize(
    ("release", "sentinel"),
    [
        ("6.18.0-generic", False),
        ("7.0.0-rc1", True),
        ("7.0", True),
        ("7.1.4-arch1-1", True),
        ("7.1.5", False),
        ("7.2.0", False),
        ("10.0.1", False),
        ("strange", False),
        ("", False),
    ],
)
def test_kernels_that_damage_equal_groups_are_known(release: str, sentinel: bool) -> None:
    """From 7.0 to before 7.1.5."""
    assert choose(release, {}) == Offload(sentinel=sentinel)


@pytest.mark.parametrize(
    ("name", "value", "release", "expected"),
    [
        (NO_GSO, "1", "6.18", Offload(gso=False)),
        (NO_GSO, "true", "6.18", Offload(gso=False)),
        (NO_GSO, "0", "6.18", Offload()),
        (NO_GRO, "1", "6.18", Offload(gro=False)),
        (SENTINEL, "1", "6.18", Offload(sentinel=True)),
        (SENTINEL, "0", "7.1.0", Offload()),
        (SENTINEL, "nonsense", "7.1.0", Offload(sentinel=True)),
    ],
)
def test_the_environment_comes_first(
    name: str, value: str, release: str, expected: Offload
) -> None:
    """Each switch alone."""
    assert choose(release, {name: value}) == expected
