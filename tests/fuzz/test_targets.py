"""Each fuzz target, for a moment: what breaks one shows here and not weeks later."""

import zlib
from random import Random

import pytest
from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS

ROUNDS = 40


@pytest.mark.parametrize("name", TARGETS)
def test_the_claim_holds_for_what_is_right_and_nearly_right(name: str) -> None:
    """The seeds, then mutations of them, the same every time."""
    target, random = TARGETS[name], Random(zlib.crc32(name.encode()))
    assert target.claim.endswith(".")
    for seed in target.seeds:
        target.run(seed)
    for _ in range(ROUNDS):
        target.run(mutate(random, target.seeds))
