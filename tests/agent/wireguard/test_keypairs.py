"""The three slots."""

from hypothesis import given
from hypothesis import strategies as st

from tailnet.agent.wireguard.keypairs import Keypairs


def slots(pairs: Keypairs[str]) -> tuple[str | None, str | None, str | None]:
    """Previous, current, next."""
    return (pairs.previous, pairs.current, pairs.next)


def test_initiator_sends_at_once_and_keeps_one_old_session() -> None:
    """A new session of ours is current; the one before it still receives."""
    pairs: Keypairs[str] = Keypairs()
    assert pairs.add_initiator("a") == []
    assert pairs.add_initiator("b") == []
    assert slots(pairs) == ("a", "b", None)
    assert pairs.add_initiator("c") == ["a"]


def test_responder_waits_for_the_first_packet() -> None:
    """A session that the peer asked for does not send before the peer proved that it has it."""
    pairs: Keypairs[str] = Keypairs()
    pairs.add_initiator("a")
    pairs.add_initiator("b")
    assert pairs.add_responder("c") == ["a"]
    assert slots(pairs) == (None, "b", "c")
    assert pairs.confirm("b") is None
    assert pairs.confirm("c") == []
    assert slots(pairs) == ("b", "c", None)
    assert pairs.confirm("c") is None


def test_initiator_with_unconfirmed_next_keeps_it_as_previous() -> None:
    """In a simultaneous initiation the peer may already send on its own session."""
    pairs: Keypairs[str] = Keypairs()
    pairs.add_initiator("a")
    pairs.add_responder("b")
    assert pairs.add_initiator("c") == ["a"]
    assert slots(pairs) == ("b", "c", None)


def test_unconfirmed_next_is_replaced() -> None:
    """Only the last answer counts."""
    pairs: Keypairs[str] = Keypairs()
    pairs.add_responder("a")
    assert pairs.add_responder("b") == ["a"]
    assert pairs.drop("b")
    assert not pairs.drop("b")


@given(st.lists(st.tuples(st.sampled_from(["i", "r", "c", "d", "x"]), st.integers(0, 20))))
def test_nothing_leaks(steps: list[tuple[str, int]]) -> None:
    """Every session is in a slot or was handed back exactly once."""
    pairs: Keypairs[list[int]] = Keypairs()
    made: list[list[int]] = []
    gone: list[list[int]] = []
    for step, n in steps:
        match step:
            case "i" | "r":
                made.append([len(made)])
                add = pairs.add_initiator if step == "i" else pairs.add_responder
                gone += add(made[-1])
            case "c" if made:
                gone += pairs.confirm(made[n % len(made)]) or []
            case "d" if made:
                victim = made[n % len(made)]
                gone += [victim] if pairs.drop(victim) else []
            case _:
                gone += pairs.clear()
        assert sorted([*gone, *pairs]) == made
