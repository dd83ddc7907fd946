"""When all addresses of a peer are asked."""

from tailnet.agent.magicsock.search import CALLED_FLOOR, INTERVALS, UPGRADE_INTERVAL, Search


def begun(search: Search, rounds: int) -> list[float]:
    """Make that many, each when it is due; when they were, less when the first was."""
    now = 100.0
    at = []
    for _ in range(rounds):
        search.begin(now)
        at.append(now - 100.0)
        assert search.at is not None
        assert not search.due(search.at - 0.001)
        now = search.at
        assert search.due(now)
    return at


def test_rounds_slow_down() -> None:
    """To one each 5 s."""
    assert begun(Search(), 8) == [0, 1, 2, 4, 7, 12, 17, 22]


def test_what_was_found_or_given_up_begins_anew() -> None:
    """Quickly; and only a round that follows another one is a repetition."""
    search = Search()
    begun(search, 5)
    search.end()
    assert not search.due(1e9)
    assert not search.begin(0.0)
    assert search.begin(1.0)
    assert search.at == 1.0 + INTERVALS[1]


def test_on_another_network_what_is_due_stays_due() -> None:
    """But the pace is that of the beginning, and a better path may be looked for at once."""
    search = Search()
    begun(search, 5)
    due = search.at
    search.note_round(120.0)
    search.reset()
    assert search.at == due
    assert search.may_upgrade(120.0)
    assert not search.begin(120.0)


def test_a_better_path_is_looked_for_once_a_minute() -> None:
    """Whatever the last round was for."""
    search = Search()
    assert search.may_upgrade(0.0)
    search.note_round(5.0)
    assert not search.may_upgrade(4.999 + UPGRADE_INTERVAL)
    assert search.may_upgrade(5.0 + UPGRADE_INTERVAL)


def test_a_peer_that_calls_all_the_time_is_not_followed_each_time() -> None:
    """Nor does a call that is not followed put off the next one that is."""
    search = Search()
    assert search.follow(1.0)
    assert not search.follow(1.0 + CALLED_FLOOR * 0.9)
    assert search.follow(1.0 + CALLED_FLOOR)
