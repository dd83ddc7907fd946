"""Work in slices: the same work, with stops."""

import gc

import pytest

from tailnet.agent.slices import SLICE, Steps, finish, much_to_keep, sliced
from tailnet.agent.tasks import in_slices


def counted(done: list[int]) -> Steps[int]:
    """Three steps with a stop between two."""
    for number in range(3):
        done.append(number)
        yield
    return len(done)


async def test_both_ways_do_the_same() -> None:
    """At once, and with stops."""
    one, other = list[int](), list[int]()
    assert finish(counted(one)) == await in_slices(counted(other)) == 3
    assert one == other == [0, 1, 2]


async def test_an_error_ends_the_work() -> None:
    """It reaches whoever asked for the work."""

    def broken() -> Steps[None]:
        yield
        raise KeyError

    with pytest.raises(KeyError):
        finish(broken())
    with pytest.raises(KeyError):
        await in_slices(broken())


def test_slices_cover_everything_once() -> None:
    """In order; the last may be short."""
    items = list(range(2 * SLICE + 1))
    parts = list(sliced(items))
    assert [len(part) for part in parts] == [SLICE, SLICE, 1]
    assert [item for part in parts for item in part] == items


def test_the_collector_works_again_after_an_error() -> None:
    """Whatever happens in between."""

    def broken() -> None:
        with much_to_keep():
            assert not gc.isenabled()
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert gc.isenabled()
