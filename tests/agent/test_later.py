"""An answer that comes later."""

import asyncio

import pytest

from tailnet.agent.later import Later


def test_whoever_waits_is_told_at_once_and_once() -> None:
    """Not in the loop's next turn; what is said after that, nobody hears."""
    heard: list[int | None] = []
    later: Later[int] = Later()
    later.then(heard.append)
    later.tell(1)
    later.tell(2)
    later.cancel()
    assert heard == [1]
    later.then(heard.append)
    assert heard == [1, 1]


def test_the_work_ends_when_nobody_waits_any_more() -> None:
    """And only then."""
    heard: list[int | None] = []
    ended: list[str] = []
    later: Later[int] = Later()
    later.stop = lambda: ended.append("work")
    later.then(heard.append)
    later.cancel()
    later.cancel()
    later.tell(1)
    assert (heard, ended) == ([None], ["work"])
    told: Later[int] = Later()
    told.stop = lambda: ended.append("more")
    told.tell(1)
    told.cancel()
    assert ended == ["work"]


async def test_it_can_be_awaited_and_is_cancelled_with_who_does() -> None:
    """As a future."""
    known: Later[int] = Later()
    known.tell(1)
    assert await known == 1
    later: Later[int] = Later()
    asyncio.get_running_loop().call_soon(later.tell, 2)
    assert await later == 2
    ended: list[str] = []
    never: Later[int] = Later()
    never.stop = lambda: ended.append("work")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await never
    assert ended == ["work"]
